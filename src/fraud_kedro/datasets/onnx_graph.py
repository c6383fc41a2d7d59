"""A catalog entry for an ONNX graph, checked before it is written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import fsspec
import onnx
from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import get_filepath_str, get_protocol_and_path
from kedro_datasets._typing import JSONPreview


class OnnxGraphDataset(AbstractDataset[onnx.ModelProto, onnx.ModelProto]):
    """Saves and loads an ONNX graph; an invalid one is refused.

    Parameters
    ----------
    filepath : str
        Path or URL of the file.
    metadata : dict, optional
        For Kedro-Viz and other plugins.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._protocol, path = get_protocol_and_path(filepath)
        self._filepath = PurePosixPath(path)
        options = {"auto_mkdir": True} if self._protocol == "file" else {}
        self._fs = fsspec.filesystem(self._protocol, **options)
        self.metadata = metadata

    @property
    def _path(self) -> str:
        return get_filepath_str(self._filepath, self._protocol)

    def load(self) -> onnx.ModelProto:
        """Read the graph."""
        return onnx.load_from_string(self._fs.cat_file(self._path))

    def save(self, data: onnx.ModelProto) -> None:
        """Check and write the graph; equal graphs give equal bytes.

        Raises
        ------
        DatasetError
            If the graph is not valid ONNX.
        """
        try:
            onnx.checker.check_model(data)
        except onnx.checker.ValidationError as error:
            raise DatasetError(f"The graph for {self._filepath} is not valid ONNX: {error}") from error
        self._fs.pipe_file(self._path, data.SerializeToString(deterministic=True))
        self._fs.invalidate_cache(self._path)

    def preview(self) -> JSONPreview:
        """Size, operators and metadata, for Kedro-Viz."""
        graph = self.load()
        summary = {
            "bytes": graph.ByteSize(),
            "operators": dict(Counter(node.op_type for node in graph.graph.node)),
            "opsets": {opset.domain or "ai.onnx": opset.version for opset in graph.opset_import},
            "metadata": {entry.key: entry.value for entry in graph.metadata_props},
        }
        return JSONPreview(json.dumps(summary))

    def _exists(self) -> bool:
        return bool(self._fs.exists(self._path))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}

"""A catalog entry for one pydantic model, kept as JSON."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

import fsspec
from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import get_filepath_str, get_protocol_and_path
from kedro.utils import load_obj
from kedro_datasets._typing import JSONPreview
from pydantic import BaseModel, ValidationError


class PydanticJsonDataset(AbstractDataset[BaseModel, BaseModel]):
    """Saves a pydantic model as JSON and loads it as the model again.

    So a node receives a typed object, whether it was made in this run or read
    from an earlier one.

    Parameters
    ----------
    filepath : str
        Path or URL of the JSON file.
    model : str
        Dotted path of the model class.
    metadata : dict, optional
        For Kedro-Viz and other plugins.

    Examples
    --------
    .. code-block:: yaml

        resolved_schema:
          type: fraud_kedro.datasets.pydantic_json.PydanticJsonDataset
          filepath: data/02_intermediate/resolved_schema.json
          model: fraud_kedro.schema.ResolvedSchema
    """

    def __init__(self, *, filepath: str, model: str, metadata: dict[str, Any] | None = None) -> None:
        self._model: type[BaseModel] = load_obj(model)
        self._protocol, path = get_protocol_and_path(filepath)
        self._filepath = PurePosixPath(path)
        options = {"auto_mkdir": True} if self._protocol == "file" else {}
        self._fs = fsspec.filesystem(self._protocol, **options)
        self.metadata = metadata

    @property
    def _path(self) -> str:
        return get_filepath_str(self._filepath, self._protocol)

    def load(self) -> BaseModel:
        """Read the file as the model.

        Raises
        ------
        DatasetError
            If the file was written by another version and no longer fits.
        """
        content = self._fs.cat_file(self._path)
        try:
            return self._model.model_validate_json(content)
        except ValidationError as error:
            raise DatasetError(
                f"{self._filepath} does not fit this version's {self._model.__name__} "
                f"({error.error_count()} field(s)). Run the pipeline that writes it again."
            ) from error

    def save(self, data: BaseModel) -> None:
        """Write the model as indented JSON."""
        self._fs.pipe_file(self._path, data.model_dump_json(by_alias=True, indent=2).encode())
        self._fs.invalidate_cache(self._path)

    def preview(self) -> JSONPreview:
        """Show the JSON in Kedro-Viz."""
        return JSONPreview(json.dumps(json.loads(self._fs.cat_file(self._path))))

    def _exists(self) -> bool:
        return bool(self._fs.exists(self._path))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "model": self._model.__name__}

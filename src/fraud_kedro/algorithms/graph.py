"""Builds the ONNX graph of a model, node by node.

The graphs are of opset 10, the lowest that has a remainder of floats (``Mod``),
and of version 1 of `ai.onnx.ml`: any runtime of the last years reads them.
Every name is a counter's, so the same model gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fraud_kedro import __version__
from fraud_kedro.algorithms.trees import TreeEnsemble

INPUT_NAME = "features"
OUTPUT_NAME = "probability"
BATCH_DIMENSION = "n"
PRODUCER = "fraud_kedro"

_OPSET = 10
_ML_DOMAIN = "ai.onnx.ml"
_ML_OPSET = 1
# The first that opset 10 came with.
_IR_VERSION = 5


class GraphBuilder:
    """Collects the nodes and constants of one graph.

    Parameters
    ----------
    n_features : int
        Width of the input tensor `INPUT_NAME`, float32.
    """

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def constant(self, value: NDArray[Any]) -> str:
        """Name of a tensor with this value; equal values share one tensor."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        return str(self._constants[key].name)

    def node(self, operator: str, inputs: Sequence[str], *, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output; returns the output's name."""
        return self.node_of(operator, inputs, 1, domain=domain, **attributes)[0]

    def node_of(
        self, operator: str, inputs: Sequence[str], n_outputs: int, *, domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node of several outputs; returns their names."""
        name = f"{operator}_{len(self._nodes)}"
        outputs = tuple(f"{name}_{index}" for index in range(n_outputs))
        self._nodes.append(
            helper.make_node(operator, inputs, outputs, name=name, domain=domain, **attributes)
        )
        return outputs

    def trees(self, ensemble: TreeEnsemble, features: str) -> str:
        """Add an ensemble; returns a float32 tensor of shape (n, n_scores)."""
        ensemble = ensemble.without_constants()
        if not ensemble.trees:
            return self._constant_score(ensemble.base, features)
        trees = ensemble.trees
        sizes = [len(tree) for tree in trees]
        tree_ids = np.repeat(np.arange(len(trees)), sizes)
        node_ids = np.concatenate([np.arange(size) for size in sizes])
        feature = np.concatenate([tree.feature for tree in trees])
        leaf = feature < 0
        value = np.concatenate([tree.value for tree in trees])[leaf]
        n_scores = value.shape[1]
        branch = "BRANCH_LEQ" if ensemble.inclusive else "BRANCH_LT"
        return self.node(
            "TreeEnsembleRegressor",
            [features],
            domain=_ML_DOMAIN,
            n_targets=n_scores,
            base_values=list(ensemble.base),
            nodes_treeids=tree_ids.tolist(),
            nodes_nodeids=node_ids.tolist(),
            nodes_featureids=np.where(leaf, 0, feature).tolist(),
            nodes_modes=np.where(leaf, "LEAF", branch).tolist(),
            nodes_values=np.where(leaf, 0.0, np.concatenate([t.threshold for t in trees])).tolist(),
            nodes_truenodeids=np.concatenate([tree.left for tree in trees]).tolist(),
            nodes_falsenodeids=np.concatenate([tree.right for tree in trees]).tolist(),
            target_treeids=np.repeat(tree_ids[leaf], n_scores).tolist(),
            target_nodeids=np.repeat(node_ids[leaf], n_scores).tolist(),
            target_ids=np.tile(np.arange(n_scores), len(value)).tolist(),
            target_weights=value.ravel().tolist(),
        )

    def _constant_score(self, scores: Sequence[float], features: str) -> str:
        rows = self.node("Gather", [self.node("Shape", [features]), self.constant(np.array([0]))])
        shape = self.node("Concat", [rows, self.constant(np.array([1]))], axis=0)
        return self.node("Expand", [self.constant(np.array([scores], dtype=np.float32)), shape])

    def finish(self, probability: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """Close the graph on a float32 tensor of shape (n, 1) and check it.

        Parameters
        ----------
        probability : str
            Name of the tensor that becomes the output, as shape (n,).
        metadata : mapping of str to str
            Written into ``metadata_props`` in the order of its keys.

        Returns
        -------
        onnx.ModelProto
        """
        self._nodes.append(
            helper.make_node("Squeeze", [probability], [OUTPUT_NAME], name=OUTPUT_NAME, axes=[1])
        )
        shape: list[str | int | None] = [BATCH_DIMENSION, self.n_features]
        graph = helper.make_graph(
            self._nodes,
            PRODUCER,
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [BATCH_DIMENSION])],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        if any(node.domain == _ML_DOMAIN for node in self._nodes):
            opsets.append(helper.make_opsetid(_ML_DOMAIN, _ML_OPSET))
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=_IR_VERSION,
            producer_name=PRODUCER,
            producer_version=__version__,
        )
        helper.set_model_props(model, {key: metadata[key] for key in sorted(metadata)})
        onnx.checker.check_model(model, full_check=True)
        return model

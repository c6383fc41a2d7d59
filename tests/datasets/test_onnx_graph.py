from __future__ import annotations

import json

import onnx
import onnxruntime
import pytest
from kedro.io import DatasetError
from onnx import helper

from fraud_kedro.datasets.onnx_graph import OnnxGraphDataset


@pytest.fixture
def graph(logistic_graph) -> onnx.ModelProto:
    model = onnx.load_from_string(logistic_graph([0.5, -0.25], -1.0))
    helper.set_model_props(model, {"algorithm": "logistic_regression"})
    return model


def test_a_graph_comes_back_as_it_was_saved(graph, tmp_path):
    dataset = OnnxGraphDataset(filepath=str(tmp_path / "models" / "model.onnx"))

    dataset.save(graph)

    assert dataset.load() == graph


def test_the_file_is_what_onnxruntime_loads(graph, tmp_path):
    file = tmp_path / "model.onnx"
    OnnxGraphDataset(filepath=str(file)).save(graph)

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    assert [taken.name for taken in session.get_inputs()] == ["features"]


def test_equal_graphs_give_equal_bytes(graph, tmp_path):
    for name in ("first", "second"):
        OnnxGraphDataset(filepath=str(tmp_path / name)).save(graph)

    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_an_invalid_graph_is_refused_and_leaves_the_file_alone(graph, tmp_path):
    file = tmp_path / "model.onnx"
    dataset = OnnxGraphDataset(filepath=str(file))
    dataset.save(graph)
    before = file.read_bytes()
    broken = onnx.ModelProto()
    broken.CopyFrom(graph)
    broken.graph.node.append(helper.make_node("Add", ["nothing", "features"], ["sum"]))

    with pytest.raises(DatasetError, match="not valid ONNX"):
        dataset.save(broken)

    assert file.read_bytes() == before


def test_the_preview_says_what_the_graph_is_made_of(graph, tmp_path):
    dataset = OnnxGraphDataset(filepath=str(tmp_path / "model.onnx"))
    dataset.save(graph)

    summary = json.loads(dataset.preview())

    assert summary["bytes"] == graph.ByteSize()
    assert summary["operators"]["MatMul"] == 1
    assert summary["metadata"] == {"algorithm": "logistic_regression"}


def test_it_exists_once_it_was_saved(graph, tmp_path):
    dataset = OnnxGraphDataset(filepath=str(tmp_path / "model.onnx"))

    assert not dataset.exists()
    dataset.save(graph)
    assert dataset.exists()


def test_a_file_that_is_no_graph_is_a_dataset_error(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"not a graph")

    with pytest.raises(DatasetError):
        OnnxGraphDataset(filepath=str(file)).load()

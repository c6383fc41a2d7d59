"""What tests of the registry start from."""

from __future__ import annotations

import onnx
import pytest


@pytest.fixture
def bundle(make_bundle, tmp_path):
    return make_bundle(tmp_path / "bundle", version=None)


@pytest.fixture
def twin(logistic_graph):
    """The graph of an evaluation twin: other coefficients than the bundle's."""
    return onnx.load_from_string(logistic_graph([0.01] * 30, -2.0))

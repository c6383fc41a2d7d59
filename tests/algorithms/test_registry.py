from __future__ import annotations

import subprocess
import sys

import pytest

from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, get_algorithm
from fraud_kedro.errors import TrainingError


def test_the_four_algorithms_are_found():
    assert set(ALGORITHM_NAMES) >= {"lightgbm", "logistic_regression", "random_forest", "xgboost"}


@pytest.mark.parametrize("name", ALGORITHM_NAMES)
def test_every_module_found_is_an_algorithm_of_that_name(name):
    assert get_algorithm(name).name == name


def test_an_unknown_name_lists_those_that_exist():
    with pytest.raises(TrainingError, match=r"'catboost' is unknown.*lightgbm, logistic_regression"):
        get_algorithm("catboost")


def test_listing_the_algorithms_imports_none_of_their_libraries():
    code = (
        "import sys; from fraud_kedro.algorithms.registry import ALGORITHM_NAMES; "
        "print([m for m in ('sklearn', 'lightgbm', 'xgboost', 'optuna', 'onnx') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"

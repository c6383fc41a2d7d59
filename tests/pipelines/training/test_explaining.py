from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fraud_kedro.evaluation.metrics import ScoredRows, average_precision
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.pipelines.training.explaining import explain


@pytest.fixture(scope="module")
def explained(parts, candidate):
    return explain(candidate.evaluation_model, parts.test, candidate.training, 0)


def test_contributions_and_base_add_up_to_the_calibrated_log_odds_of_the_rows(parts, candidate, explained):
    contributions, _ = explained
    data = labelled_matrix(parts.test, parts.schema)
    rows = contributions["row"].to_numpy()
    assert len(rows) == 40
    np.testing.assert_allclose(
        contributions["log_odds"], candidate.evaluation_model.log_odds(data.features[rows])
    )
    names = [f"contribution_{name}" for name in parts.schema.features]
    total = contributions["base_value"].to_numpy() + contributions.select(names).to_numpy().sum(axis=1)
    np.testing.assert_allclose(total, contributions["log_odds"], atol=1e-6)
    np.testing.assert_array_equal(
        contributions.select(f"value_{name}" for name in parts.schema.features).to_numpy(),
        data.features[rows],
    )
    np.testing.assert_array_equal(contributions["label"], data.labels[rows])
    assert contributions["weight"].sum() == pytest.approx(len(parts.test))


def test_the_importance_is_a_row_for_each_feature_in_order(parts, explained):
    _, importance = explained
    assert importance["feature"].to_list() == list(parts.schema.features)
    repeats = importance.select("repeat_1", "repeat_2").to_numpy()
    np.testing.assert_allclose(importance["fall"], repeats.mean(axis=1))
    assert importance["fall"].max() > 0.01


def test_the_sample_and_the_draws_follow_the_seed(parts, candidate, explained):
    for again, before in zip(
        explain(candidate.evaluation_model, parts.test, candidate.training, 0), explained, strict=True
    ):
        assert again.equals(before)
    other, _ = explain(candidate.evaluation_model, parts.test, candidate.training, 1)
    assert not other["row"].equals(explained[0]["row"])


def test_a_sample_of_all_rows_ranks_as_they_do(parts, candidate):
    options = candidate.training.explanation.model_copy(update={"shap_rows": 10_000})
    training = candidate.training.model_copy(update={"explanation": options})
    contributions, _ = explain(candidate.evaluation_model, parts.test, training, 0)
    labels, log_odds, weights = (contributions[name].to_numpy() for name in ("label", "log_odds", "weight"))
    expected = candidate.evaluation.test["average_precision"].value
    assert average_precision(ScoredRows(labels, log_odds, weights)) == pytest.approx(expected)


def test_features_may_be_called_as_the_other_columns_are(parts, candidate):
    names = {"V1": "weight", "V2": "row", "V3": "label", "V4": "log_odds", "V5": "base_value"}
    features = tuple(names.get(name, name) for name in parts.schema.features)
    schema = parts.schema.model_copy(update={"features": features})
    model = replace(candidate.evaluation_model, schema=schema)
    renamed, _ = explain(model, parts.test.rename(names), candidate.training, 0)
    plain, _ = explain(candidate.evaluation_model, parts.test, candidate.training, 0)
    for column in ("weight", "row", "label", "log_odds"):
        assert renamed[column].equals(plain[column])
    assert renamed["value_weight"].equals(plain["value_V1"])
    assert renamed["contribution_label"].equals(plain["contribution_V3"])

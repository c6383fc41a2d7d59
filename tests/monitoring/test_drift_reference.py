from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_kedro.errors import DriftError
from fraud_kedro.monitoring.drift_reference import effective_share, equal_weight, reference_of

WEIGHTS = st.lists(st.floats(0.1, 100), min_size=20, max_size=200).map(np.array)


@pytest.fixture(scope="module")
def bundle(make_drift_bundle, tmp_path_factory):
    return make_drift_bundle(tmp_path_factory.mktemp("bundle") / "champion")


def test_a_bundles_rows_scores_and_counts_are_the_reference(bundle):
    found = reference_of(bundle)
    table = pl.read_parquet(bundle.folder / "reference.parquet")
    assert found.model_version == "fraud_detection_logistic_regression_v1"
    np.testing.assert_array_equal(found.rows, table.select(found.schema.features).to_numpy())
    np.testing.assert_array_equal(found.scores, table["probability"])
    assert found.flagged_share == pytest.approx((table["probability"] >= 0.2).mean())
    assert found.probable_share == pytest.approx((table["probability"] >= 0.5).mean())
    assert (found.base_rows, found.hours.sum()) == (3000, 24_000)


def test_a_column_is_as_important_as_the_score_moves_with_it(bundle):
    found = reference_of(bundle)
    assert found.importance.sum() == pytest.approx(1)
    # The coefficients of the fixture's model, on columns of equal spread.
    features = found.schema.features
    sizes = np.array([abs(0.3 * np.cos(n)) for n, name in enumerate(features) if name.startswith("V")])
    of_v = found.importance[[name.startswith("V") for name in features]]
    assert np.corrcoef(sizes, of_v)[0, 1] > 0.99
    assert found.importance[features.index("Time")] < 0.01


@settings(deadline=None)
@given(WEIGHTS)
def test_rows_are_drawn_as_often_as_their_weights_say(weights):
    chosen = equal_weight(weights)
    assert len(chosen) == int(effective_share(weights) * len(weights)) <= len(weights)
    expected = len(chosen) * weights / weights.sum()
    assert (np.abs(np.bincount(chosen, minlength=len(weights)) - expected) <= 1 + 1e-9).all()


def test_equal_weights_choose_every_row_once(make_drift_bundle, tmp_path):
    np.testing.assert_array_equal(equal_weight(np.full(50, 3.0)), np.arange(50))
    found = reference_of(make_drift_bundle(tmp_path / "champion", rows=600, weight=7.0))
    assert (len(found.rows), found.base_rows) == (600, pytest.approx(600))


def test_hours_of_a_table_shorter_than_a_day_tell_nothing(make_drift_bundle, tmp_path):
    bundle = make_drift_bundle(tmp_path / "champion", rows=600)
    short = bundle.metadata.data.model_copy(update={"time_to": 3600.0})
    of_short = replace(bundle, metadata=bundle.metadata.model_copy(update={"data": short}))
    assert reference_of(of_short).hours is None


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"V1": [1.0]}, "lacks Time, V2, V3, V4, V5: there is nothing to compare"),
        (None, "has no rows: there is nothing to compare"),
    ],
)
def test_a_bundle_without_rows_is_refused_with_the_mend(make_drift_bundle, tmp_path, frame, said):
    empty = pl.read_parquet(make_drift_bundle(tmp_path / "whole", rows=600).folder / "reference.parquet")[:0]
    buffer = io.BytesIO()
    (empty if frame is None else pl.DataFrame(frame)).write_parquet(buffer)
    bundle = make_drift_bundle(tmp_path / "champion", rows=600, reference=buffer.getvalue())
    with pytest.raises(DriftError, match=said) as error:
        reference_of(bundle)
    assert "kedro run --pipeline=export" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bundle_replaced_while_it_is_read_is_not_mixed_with_the_new_one(make_drift_bundle, tmp_path):
    before = make_drift_bundle(tmp_path / "champion", rows=600)
    make_drift_bundle(tmp_path / "champion", rows=700)
    with pytest.raises(DriftError, match="was replaced while it was read"):
        reference_of(before)


def test_older_bundles_without_hours_can_be_read(bundle):
    document = json.loads((bundle.folder / "metadata.json").read_text())
    del document["data"]["hours"]
    assert type(bundle.metadata).model_validate(document).data.hours == ()

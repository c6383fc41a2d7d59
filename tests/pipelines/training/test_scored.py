from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fraud_kedro.pipelines.training.scored import SCORE, scored_rows, scored_table, share_of_days


def test_a_scored_table_keeps_what_figures_need_and_no_features(parts):
    schema = parts.schema.model_copy(update={"transaction_id": "id", "sample_weight": "weight"})
    frame = parts.test.with_row_index("id").with_columns(weight=pl.lit(2.0))
    table = scored_table(frame, schema, np.linspace(0, 1, len(frame)))
    assert table.columns == ["id", "Time", "Amount", "Class", "weight", SCORE]
    rows = scored_rows(table, schema)
    assert set(rows.weights) == {2.0}
    np.testing.assert_array_equal(rows.labels, parts.test["Class"])
    np.testing.assert_array_equal(rows.scores, np.linspace(0, 1, len(frame)))
    np.testing.assert_array_equal(rows.amounts, parts.test["Amount"])
    np.testing.assert_array_equal(rows.seconds, parts.test["Time"])


def test_rows_without_a_weight_count_once(parts, candidate):
    assert set(scored_rows(candidate.test_scores, parts.schema).weights) == {1.0}


def test_a_part_that_was_drawn_holds_a_share_of_its_days(parts):
    assert share_of_days(parts.record, 1000) == 1.0
    drawn = parts.record.model_copy(update={"split": "stratified"})
    assert share_of_days(drawn, 1000) == pytest.approx(1000 / parts.record.rows)

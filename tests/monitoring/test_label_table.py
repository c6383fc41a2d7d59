from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_kedro.errors import DataError
from fraud_kedro.monitoring.label_table import parse_labels, write_all
from fraud_kedro.prediction_log import Label

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)


def parsed(**columns):
    return parse_labels(pl.DataFrame(columns), now=NOW)


def test_a_table_of_text_is_read_as_one_of_types():
    moment = datetime(2026, 6, 1, 10, tzinfo=UTC)
    as_text = parsed(transaction_id=["a"], label=["1"], labelled_at=["2026-06-01T12:00:00+02:00"])
    assert as_text == [Label("a", 1, moment)]
    assert parsed(transaction_id=["a"], label=[1], labelled_at=[moment]) == as_text
    assert parsed(transaction_id=["a"], label=[1.0], labelled_at=[moment.replace(tzinfo=None)]) == as_text
    assert parsed(transaction_id=[7], label=[0]) == [Label("7", 0, None)]
    assert parsed(transaction_id=["a"], label=["0"], labelled_at=[""]) == [Label("a", 0, None)]


def test_what_is_wrong_is_told_with_the_rows():
    with pytest.raises(DataError) as caught:
        parsed(
            transaction_id=["a", "", "c", "d"], label=["1", "0", "fraud", None],
            labelled_at=["yesterday", "2026-06-01", None, "2027-01-01T00:00:00Z"],
        )  # fmt: skip
    assert str(caught.value).removeprefix("The table of labels was not taken: ").split("; ") == [
        "transaction_id should have 1 to 128 characters (1 row(s), such as 2)",
        "label should be 0 or 1 (2 row(s), such as 3, 4)",
        "labelled_at should not lie in the future (1 row(s), such as 4)",
        "labelled_at should be a timestamp such as 2026-01-31T12:00:00Z (1 row(s), such as 1).",
    ]


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="has no column 'label'; it has: transaction_id, Class"):
        parsed(transaction_id=["a"], Class=[1])


def test_both_classes_at_one_moment_are_refused():
    with pytest.raises(DataError, match=r"both 0 and 1 of 1 transaction.*such as 'a'"):
        parsed(transaction_id=["a", "a", "b"], label=[0, 1, 1])


def test_of_both_classes_the_later_known_wins_and_both_are_kept(any_log, record):
    any_log.add(record("a"))
    early, late = NOW - timedelta(days=9), NOW - timedelta(days=5)
    rows = parsed(transaction_id=["a", "a", "gone"], label=[1, 0, 1], labelled_at=[late, early, early])
    written = write_all(any_log.writer, rows, received_at=NOW)
    assert (written.stored, written.corrections, written.unknown) == (3, 1, ["gone"])
    [row] = any_log.reader.labelled(columns=["transaction_id"])
    assert row["label"] == 1
    assert [row["label"] for row in any_log.reader.labels() if row["transaction_id"] == "a"] == [0, 1]
    again = write_all(any_log.writer, rows, received_at=NOW)
    assert (again.stored, again.unchanged) == (0, 3)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.integers(0, 5)), max_size=20),
    st.randoms(use_true_random=False),
)
def test_the_order_of_a_table_does_not_matter(rows, random):
    unique = list({(name, hour): (name, label, hour) for name, label, hour in rows}.values())
    shuffled = random.sample(unique, len(unique))

    def table(given):
        return pl.DataFrame(
            [(name, label, NOW - timedelta(hours=hour)) for name, label, hour in given],
            schema={"transaction_id": pl.String, "label": pl.Int64, "labelled_at": pl.Datetime("us", "UTC")},
            orient="row",
        )

    one, other = (parse_labels(table(given), now=NOW) for given in (unique, shuffled))
    assert {*one} == {*other}
    assert [label.labelled_at for label in one] == sorted(label.labelled_at for label in one)

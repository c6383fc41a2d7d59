from __future__ import annotations

from fraud_kedro.monitoring.labelled_window import read_labelled_window
from fraud_kedro.monitoring.settled import LabelOptions

OTHER = "fraud_detection_xgboost_v2"


def read(log, now, **options):
    chosen = LabelOptions(**{"maturity_days": 30, **options})
    version = "fraud_detection_lightgbm_v1"
    return read_labelled_window(log.reader, version, chosen, days=20, most_rows=100, as_of=now)


def test_only_settled_transactions_of_the_champion_count(any_log, record, now):
    any_log.add(
        record("silent", 0.1, days=40),
        record("fraud", 0.6, days=41),
        record("declined", 0.9, days=42),
        record("reviewed", 0.9, days=43),
        record("young", 0.7, days=5),
        record("old", 0.7, days=51),
        record("another's", 0.7, days=40, version=OTHER),
        record("shadow", 0.7, days=40, role="shadow"),
    )
    for name in ("fraud", "young", "old", "another's", "shadow"):
        any_log.label(name, 1, days=2)
    any_log.label("reviewed", 0, days=2)
    found = read(any_log, now)
    rows = sorted(zip(found.scores.tolist(), found.flagged.tolist(), found.labels.tolist(), strict=True))
    assert rows == [(0.1, 0, 0), (0.6, 1, 1), (0.9, 1, 0)]
    assert (found.frauds, found.legitimate) == (1, 2)
    assert (now - found.until).days == 30
    assert (now - found.since).days == 50


def test_silence_can_mean_nothing(log, record, now):
    log.add(record("silent", days=40), record("fraud", 0.6, days=41))
    log.label("fraud", 1, days=2)
    found = read(log, now, unlabelled="unknown")
    assert found.labels.tolist() == [1]


def test_an_empty_log_has_no_labels(log, now):
    found = read(log, now)
    assert (found.frauds, found.legitimate) == (0, 0)

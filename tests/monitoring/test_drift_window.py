from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fraud_kedro.monitoring.drift_reference import reference_of
from fraud_kedro.monitoring.drift_window import covers_a_day, logged_rows, summarise
from fraud_kedro.prediction_log import PredictionRecord, open_for_reading, open_for_writing
from fraud_kedro.prediction_log.retention import Retention

NOW = datetime.now(UTC)
CHAMPION = "fraud_detection_logistic_regression_v1"
DAY = timedelta(days=1)


def record(
    name, features, *, role="champion", version=CHAMPION, age=timedelta(hours=1), score=0.3, event=None
):
    return PredictionRecord(
        name, role, NOW - age, event, version, score, int(score >= 0.2), "approve", "expected_cost", "a" * 32,
        None, json.dumps(features, separators=(",", ":")),
    )  # fmt: skip


@pytest.fixture(scope="module")
def of_bundle(make_drift_bundle, tmp_path_factory):
    return reference_of(make_drift_bundle(tmp_path_factory.mktemp("window") / "champion", rows=600))


@pytest.fixture(params=["sqlite", "postgresql"])
def log_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log.db'}"
    return request.getfixturevalue("postgres").database(f"drift_{tmp_path.name.replace('-', '_')[:40]}")


def counted(url, reference, *, days=1, sample_rows=50_000):
    reader = open_for_reading(url)
    since = NOW - days * DAY
    until = NOW + timedelta(seconds=1)
    found = summarise(
        logged_rows(reader, since, until),
        reference,
        since=since,
        until=until,
        sample_rows=sample_rows,
        seed=0,
    )
    reader.close()
    return found


def test_a_log_of_several_models_and_schemas_is_counted(log_url, of_bundle, draw_rows):
    names = of_bundle.schema.features
    rows = draw_rows(300)
    rows[:30, 1] = 0
    features = [dict(zip(names, row.tolist(), strict=True)) for row in rows]
    writer = open_for_writing(log_url)
    writer.write(
        [record(f"c{n}", each, score=0.6 if n < 20 else 0.01) for n, each in enumerate(features[:200])]
    )
    writer.write(
        [record(f"h{n}", each, role="challenger", version="other") for n, each in enumerate(features[200:])]
    )
    writer.write(
        [record(f"c{n}", each, role="shadow", version="other") for n, each in enumerate(features[:50])]
    )
    writer.write([record(f"x{n}", {"amount": 3.0}, version="older") for n in range(40)])
    writer.write([record(f"o{n}", features[0], age=3 * DAY) for n in range(25)])
    # A terminal years ahead: what counts is when its transaction arrived.
    writer.write([record("ahead", features[0], event=NOW + 3000 * DAY)])
    writer.close()
    found = counted(log_url, of_bundle)
    assert (found.rows, found.compared, found.other_schema, found.without_features) == (341, 301, 40, 0)
    assert found.versions == {CHAMPION: 201, "other": 100, "older": 40}
    assert (found.scored, found.probable, found.flagged) == (201, 20, 21)
    assert found.score_counts.sum() == 201
    assert found.zeros[1] == 31
    assert found.hours.sum() == 301
    assert covers_a_day(found)
    assert found.sample.shape == (301, len(names))
    assert np.isnan(found.sample_scores).sum() == 100


def test_rows_without_their_features_are_left_out(log_url, of_bundle, draw_rows):
    names = of_bundle.schema.features
    features = [dict(zip(names, row.tolist(), strict=True)) for row in draw_rows(10)]
    writer = open_for_writing(log_url)
    writer.write([record(f"c{n}", each, age=2 * DAY) for n, each in enumerate(features)])
    writer.write([record(f"n{n}", each) for n, each in enumerate(features)])
    Retention(writer.engine, days=1).prune()
    writer.close()
    found = counted(log_url, of_bundle, days=7)
    assert (found.rows, found.compared, found.without_features) == (20, 10, 10)


def test_an_empty_log_is_an_empty_window(log_url, of_bundle):
    open_for_writing(log_url).close()
    found = counted(log_url, of_bundle)
    assert (found.rows, found.compared, len(found.sample), found.versions) == (0, 0, 0, {})


def test_the_sample_is_bounded_and_drawn_evenly(tmp_path, of_bundle, draw_rows):
    names = of_bundle.schema.features
    features = [dict(zip(names, row.tolist(), strict=True)) for row in draw_rows(3000)]
    url = f"sqlite:///{tmp_path / 'log.db'}"
    writer = open_for_writing(url)
    writer.write([record(f"c{n}", each) for n, each in enumerate(features)])
    writer.close()
    reader = open_for_reading(url)
    assert [len(rows) for rows in reader.chunks(("features",), rows_at_once=100)] == [100] * 30
    reader.close()
    found = counted(url, of_bundle, sample_rows=1000)
    assert (found.compared, len(found.sample)) == (3000, 1000)
    times = np.sort(found.sample[:, 0])
    assert len(np.unique(times)) == 1000
    # Of each third of the window about a third of the sample.
    shares = np.histogram(times, bins=3, range=(0, 2 * 86_400))[0] / 1000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.06)

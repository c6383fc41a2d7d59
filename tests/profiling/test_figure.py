from __future__ import annotations

import json
from datetime import datetime

import numpy as np
import polars as pl
import pytest

from fraud_kedro.profiling.figure import profile_figure


@pytest.fixture(scope="module")
def profile(make_table, profiled):
    return profiled(make_table())


@pytest.fixture(scope="module")
def figure(profile):
    return json.loads(profile_figure(profile).to_json())


def test_the_column_that_separates_the_classes_most_is_shown_first(figure, profile):
    menu = figure["layout"]["updatemenus"][0]
    assert [button["label"] for button in menu["buttons"]] == [c.name for c in profile.columns]
    assert menu["buttons"][menu["active"]]["label"] == "f_telling"
    chosen = menu["buttons"][menu["active"]]["args"][0]["y"]
    assert [trace["y"] for trace in figure["data"][:2]] == chosen


def test_the_shares_of_each_class_sum_to_one(figure):
    for button in figure["layout"]["updatemenus"][0]["buttons"]:
        bars, axis, traces = button["args"]
        for shares, labels in zip(bars["y"], bars["customdata"], strict=True):
            assert sum(shares) == pytest.approx(1, abs=1e-4)
            assert len(shares) == len(labels)
        assert len(axis["xaxis.tickvals"]) == len(axis["xaxis.ticktext"])
        assert [figure["data"][index]["name"] for index in traces] == ["legitimate", "fraud"]


def test_the_rate_over_time_has_a_point_and_an_interval_for_each_period_with_rows(figure, profile):
    rate = figure["data"][2]
    assert len(rate["x"]) == len(rate["y"]) == len(rate["error_y"]["array"]) == len(profile.periods)
    first = profile.periods[0].rate.share
    assert rate["y"][0] == first.value
    assert rate["y"][0] + rate["error_y"]["array"][0] == pytest.approx(first.high)


def test_dates_are_shown_where_second_zero_is_known(make_table, profiled):
    figure = profile_figure(profiled(make_table(), origin=datetime(2020, 1, 1)))
    assert figure.data[2].x[0].startswith("2020-01-01")


def test_names_are_text_and_nothing_else(make_table, profiled):
    frame = make_table().with_columns(pl.lit(1.0).alias("f_<a href='x'>"))
    labels = [button.label for button in profile_figure(profiled(frame)).layout.updatemenus[0].buttons]
    assert "f_&lt;a href='x'&gt;" in labels


def test_an_empty_class_has_no_bars(make_table, profiled):
    figure = profile_figure(profiled(make_table(frauds=0, f_none=np.full(4_000, np.nan))))
    assert len(figure.data[1].y) == 0


def test_thirty_columns_are_a_small_file(make_table, profiled):
    rng = np.random.default_rng(0)
    profile = profiled(make_table(**{f"f_{i}": rng.normal(size=4_000) for i in range(30)}))
    assert len(profile_figure(profile).to_json()) < 250_000

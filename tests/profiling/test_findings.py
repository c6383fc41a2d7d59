from __future__ import annotations

import numpy as np

from fraud_kedro.profiling.findings import findings

DAY = 86_400


def texts(profile, kind=None):
    return [finding.text for finding in findings(profile) if kind in (None, finding.kind)]


def about(profile, column):
    return [finding.text for finding in findings(profile) if column in finding.columns]


def test_an_ordinary_table_has_nothing_to_look_at(make_table, profiled):
    frame = make_table().drop("f_constant")
    assert findings(profiled(frame, duplicates=10)) == ()


def test_a_column_that_knows_the_label_comes_first(make_table, profiled):
    frame = make_table()
    profile = profiled(frame.with_columns(f_leak=3.0 - frame["fraud"] + 0.1 * frame["f_telling"]))
    found = findings(profile)
    assert (found[0].kind, found[0].columns) == ("leak", ("f_leak",))
    assert "AUC 0.000, KS 1.000" in found[0].text
    assert [f.columns for f in found if f.kind == "leak"] == [("f_leak",)]


def test_a_leak_that_is_no_threshold_on_one_side_is_found_by_its_values(make_table, profiled):
    frame = make_table()
    always = frame["fraud"].to_numpy() == 1
    hidden = np.where(always, 0.0, np.random.default_rng(0).choice([-1.0, 1.0], 4_000, p=[0.02, 0.98]))
    assert "f_hidden" in findings(profiled(frame.with_columns(f_hidden=hidden)))[0].columns


def test_a_handful_of_frauds_proves_no_leak(make_table, profiled):
    frame = make_table(frauds=5)
    profile = profiled(frame.with_columns(f_leak=frame["fraud"].cast(float)))
    assert texts(profile, "leak") == []
    assert texts(profile, "label") == ["Only 5 frauds: every figure about them has a wide interval."]


def test_constants_zeros_and_copies_are_named(make_table, profiled):
    frame = make_table()
    zeros = np.where(np.arange(4_000) % 400 == 0, 1.5, 0.0)
    profile = profiled(
        frame.with_columns(f_zeros=zeros, f_copy=frame["f_telling"], f_also=np.full(4_000, 1.0))
    )
    assert "2 columns with one value in every row" in about(profile, "f_also")[0]
    assert "1 column with 0 in at least 99%" in about(profile, "f_zeros")[0]
    assert "f_telling, f_copy" in about(profile, "f_copy")[0]
    assert about(profile, "f_few") == []


def test_missing_values_are_counted(make_table, profiled):
    holes = np.where(np.arange(4_000) < 3, np.nan, 1.0 * np.arange(4_000))
    assert "(3 in all): f_holes." in about(profiled(make_table(f_holes=holes)), "f_holes")[0]


def test_many_names_are_cut_short(make_table, profiled):
    profile = profiled(make_table(**{f"f_{i:02}": np.zeros(4_000) for i in range(30)}))
    assert any(text.endswith("f_10 and 19 more.") for text in about(profile, "f_29"))


def test_many_duplicates_are_told(make_table, profiled):
    frame = make_table().drop("f_constant")
    assert texts(profiled(frame, duplicates=1_000)) == [
        "1,000 of 5,000 rows repeated an earlier one and were left out."
    ]


def test_labels_that_have_not_arrived_are_noticed_at_the_end_alone(make_table, profiled):
    rows = 48_000
    times = np.linspace(0, 2 * DAY, rows)
    draw = np.random.default_rng(0).random(rows) < 0.1
    for silent, expected in ((times > 1.75 * DAY, True), (times < 0.25 * DAY, False)):
        label = (draw & ~silent).astype(np.int8)
        found = texts(profiled(make_table(rows=rows, when=times, fraud=label)), "label")
        assert any("The last 6 of 48 periods" in text for text in found) is expected

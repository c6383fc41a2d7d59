"""The real rows end to end, and files that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud_kedro.champion.bundle import read_bundle

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "ulb_sample.parquet"

# What is tested is the way, not the tuning.
SHORT = {
    **{
        f"{algorithm}.budget.trials": 2
        for algorithm in ("lightgbm", "logistic_regression", "random_forest", "xgboost")
    },
    "training.bootstrap_repetitions": 50,
    "training.explanation.shap_rows": 50,
    "training.explanation.permutation_rows": 500,
    "training.explanation.permutation_repeats": 1,
    "export.drawn_rows": 5000,
}


@pytest.fixture(scope="module")
def real_rows() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows to train on, and a quarter of each class held back."""
    if not SAMPLE.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{SAMPLE} is missing")
        pytest.skip(f"the real rows are not at {SAMPLE}")
    rows = pl.read_parquet(SAMPLE).sample(fraction=1.0, shuffle=True, seed=1)
    held_back = pl.int_range(pl.len()).over("Class") < pl.len().over("Class") // 4
    return rows.filter(~held_back), rows.filter(held_back)


def write_table(root: Path, rows: pl.DataFrame) -> Path:
    file = root / "01_raw" / "creditcard.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows.write_csv(file)
    return file


@pytest.fixture(scope="module")
def trained(commands_in, tmp_path_factory, real_rows):
    commands = commands_in(tmp_path_factory.mktemp("creditcard"))
    write_table(commands.root, real_rows[0])
    return commands, commands.train(
        "--env", "creditcard", "--params", ",".join(f"{name}={value}" for name, value in SHORT.items())
    ).stderr


def test_a_champion_of_real_rows_ranks_other_real_rows(trained, real_rows):
    commands, _ = trained
    held_back = real_rows[1]
    features = read_bundle(commands.root / "06_models" / "champion").metadata.schema_.features

    with commands.serve() as address:
        body = {"transactions": held_back.select(features).to_dicts()}
        answer = httpx.post(f"{address}/predict/batch", json=body, timeout=60).json()
        health = httpx.get(f"{address}/health").json()

    scores = [prediction["probability"] for prediction in answer["predictions"]]
    assert health["trained_on"]["kind"] == "real"
    # Far below what is reached: 71 frauds make wide intervals.
    weights = held_back["sample_weight"].to_numpy()
    assert roc_auc_score(held_back["Class"], scores, sample_weight=weights) > 0.93
    assert average_precision_score(held_back["Class"], scores, sample_weight=weights) > 0.5


def test_the_weights_reach_record_and_card(trained):
    commands, logged = trained
    metadata = read_bundle(commands.root / "06_models" / "champion").metadata

    assert metadata.schema_.sample_weight == "sample_weight"
    assert metadata.data.weighted_rows > 10 * metadata.data.rows
    assert metadata.data.refit == "all"
    assert "sample_weight = sample_weight" in logged


BAD_TABLES = {
    "a missing column": (lambda rows: rows.drop("V14"), ("V14",)),
    "text in a number": (
        lambda rows: rows.with_columns(
            pl.when(pl.int_range(pl.len()) == 4)
            .then(pl.lit("abc"))
            .otherwise(pl.col("V3").cast(str))
            .alias("V3")
        ),
        ("V3", "1 row", "line 6", "abc"),
    ),
    "a class of 2": (
        lambda rows: rows.with_columns(
            pl.when(pl.int_range(pl.len()) < 3).then(2).otherwise(pl.col("Class")).alias("Class")
        ),
        ("Class", "3 rows", "line 2"),
    ),
    "one class": (lambda rows: rows.filter(pl.col("Class") == 0), ("Class", "both classes")),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_one_clear_message_and_changes_no_champion(trained, real_rows, case):
    commands, _ = trained
    spoil, expected = BAD_TABLES[case]
    before = read_bundle(commands.root / "06_models" / "champion").metadata.checksum
    file = write_table(commands.root, spoil(real_rows[0]))

    done = commands.kedro("run", "--env", "creditcard")

    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    for text in (*expected, file.name):
        assert text in line
    assert read_bundle(commands.root / "06_models" / "champion").metadata.checksum == before


def test_a_missing_table_says_what_to_put_where(commands_in, tmp_path):
    done = commands_in(tmp_path).kedro("run", "--env", "creditcard")

    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert str(tmp_path / "01_raw" / "creditcard.csv") in line
    assert "put the table there" in line

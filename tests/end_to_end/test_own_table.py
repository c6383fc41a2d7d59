"""Other tables, from a raw file to an answer over HTTP, by YAML alone."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest
import yaml

from fraud_kedro.champion.bundle import read_bundle

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "your_table.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w+\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)

# What is tested is the way, not the tuning.
QUICK = {
    "tuning": {"folds": 2, "legitimate_rows": 2000},
    "training": {
        "bootstrap_repetitions": 20,
        "explanation": {"shap_rows": 50, "permutation_rows": 200, "permutation_repeats": 1},
    },
    "export": {"drawn_rows": 5000, "promotion": {"max_calibration_error": 0.5, "repetitions": 20}},
    **{
        name: {"budget": {"trials": 1, "seconds": None}}
        for name in ("lightgbm", "logistic_regression", "random_forest", "xgboost")
    },
}


def block(name: str) -> str:
    """The page's block that is a whole file."""
    (found,) = (text for text in BLOCKS if text.startswith(f"# {name}\n"))
    return found


def environment(folder: Path, catalog: str, parameters: dict) -> Path:
    """A configuration with an environment `mine`, beside the project's own."""
    conf = folder / "conf"
    shutil.copytree(PROJECT / "conf" / "base", conf / "base")
    (conf / "local").mkdir()
    (conf / "mine").mkdir()
    (conf / "mine" / "catalog.yml").write_text(catalog)
    (conf / "mine" / "parameters.yml").write_text(yaml.safe_dump({**QUICK, **parameters}))
    return conf


def made_up_table(folder: Path, features: int) -> dict:
    """A table of transfers with timestamps of several offsets; returns its schema."""
    draw = np.random.default_rng(features)
    rows = 3000
    fraud = draw.random(rows) < 0.06
    clues = [f"clue {number}" for number in range(features - 2)]
    minutes = np.sort(draw.integers(0, 60 * 24 * 40, rows))
    offsets = ("Z", "+02:00", "-05:30")
    moments = [np.datetime64("2026-03-01T00:00:00") + np.timedelta64(int(minute), "m") for minute in minutes]
    table = pl.DataFrame(
        {
            "ref": [f"t{number}" for number in range(rows)],
            "sent": [f"{moment}{offsets[number % 3]}" for number, moment in enumerate(moments)],
            "eur": np.round(draw.gamma(2, 40, rows), 2),
            **{clue: np.round(draw.normal(1.5 * fraud * (n < 3), 1), 3) for n, clue in enumerate(clues)},
            "chargeback": fraud.astype(int),
        }
    )
    (folder / "01_raw").mkdir(parents=True)
    table.write_parquet(folder / "01_raw" / "transfers.parquet")
    return {
        "time": {"column": "sent", "format": "iso8601"},
        "amount": "eur",
        "label": "chargeback",
        "transaction_id": "ref",
        "sample_weight": None,
        "features": ["eur", "sent", "clue *"],
    }


@pytest.mark.parametrize("features", [5, 300])
def test_a_table_of_another_shape_goes_from_file_to_answer(commands_in, tmp_path, features):
    commands = commands_in(tmp_path / "data")
    schema = made_up_table(commands.root, features)
    catalog = block("conf/mine/catalog.yml").replace("purchases.csv", "transfers.parquet")
    conf = environment(tmp_path, catalog, {"schema": schema})

    commands.train("--conf-source", str(conf), "--env", "mine")

    served = read_bundle(commands.root / "06_models" / "champion").metadata.schema_
    names = ["eur", "sent", *(f"clue {number}" for number in range(features - 2))]
    assert list(served.features) == names
    row = {"transaction_id": "a", "sent": "2026-05-01T12:00:00+02:00", "eur": 99.5}
    row |= {name: 2.5 for name in names if name.startswith("clue")}
    with commands.serve() as address:
        answer = httpx.post(f"{address}/predict", json=row)
        same_moment = {**row, "sent": "2026-05-01T10:00:00Z"}
        again = httpx.post(f"{address}/predict", json=same_moment)
        wrong = httpx.post(f"{address}/predict", json={**row, "sent": 5, "Amount": 1})
        described = httpx.get(f"{address}/openapi.json").json()["components"]["schemas"]["Transaction"]
        template = httpx.get(f"{address}/predict/batch/template").text
    assert answer.status_code == 200
    assert again.json() == answer.json()
    assert {error["loc"][-1] for error in wrong.json()["detail"]} == {"sent", "Amount"}
    assert set(described["properties"]) == {*names, "transaction_id"}
    assert described["properties"]["sent"]["format"] == "date-time"
    assert template.strip() == ",".join(["transaction_id", *names])
    with closing(sqlite3.connect(commands.root / "prediction_log.db")) as log:
        logged = log.execute('SELECT event_time, eur, "clue 0", sent FROM predictions_wide').fetchall()
    assert [(entry[1], entry[2], entry[3] % 86_400) for entry in logged] == [(99.5, 2.5, 36_000.0)]
    assert str(logged[0][0]).startswith("2026-05-01 10:00:00")


def test_the_page_goes_from_its_table_to_its_answers(commands_in, tmp_path, monkeypatch):
    commands = commands_in(tmp_path / "data")
    monkeypatch.setenv("FRAUD_ROOT", str(commands.root))
    exec(block("make_purchases.py"), {})
    parameters = yaml.safe_load(block("conf/mine/parameters.yml"))
    conf = environment(tmp_path, block("conf/mine/catalog.yml"), parameters)

    commands.train("--conf-source", str(conf), "--env", "mine")

    requests = re.findall(r"^curl .*?(?=^```)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(requests) == 3
    (predict,) = (text for text in requests if ":8000/predict " in text)
    body = json.loads(re.search(r"-d '(.*)'", predict, flags=re.DOTALL)[1])
    with commands.serve() as address:
        answer = httpx.post(f"{address}/predict", json=body).json()
        template = httpx.get(f"{address}/predict/batch/template").text
        model = httpx.get(f"{address}/model").json()
    assert answer["transaction_id"] == "g-1"
    assert 0 < answer["probability"] < 1
    assert template.strip().split(",")[1:] == parameters["schema"]["features"]
    assert model["time_format"] == "iso8601"
    (query,) = (text for text in BLOCKS if text.startswith("SELECT transaction_id, event_time"))
    with closing(sqlite3.connect(commands.root / "prediction_log.db")) as log:
        (entry,) = log.execute(query).fetchall()
    assert entry[0] == "g-1"
    assert str(entry[1]).startswith("2026-01-05 13:45:00")

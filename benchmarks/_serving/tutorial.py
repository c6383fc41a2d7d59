"""The way tutorials serve it: pydantic, a pandas frame, a scaler, a new connection for every row logged."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from fastapi import FastAPI
from pydantic import create_model
from sklearn.preprocessing import StandardScaler

_folder = Path(os.environ["BENCHMARK_FOLDER"])
_names: list[str] = json.loads((_folder / "features.json").read_text())
_booster = lightgbm.Booster(model_file=str(_folder / "model.txt"))
_log = str(_folder / "tutorial.db")
# Fitted on rows of no weight here: what counts is its `transform`.
_scaler = StandardScaler(with_mean=False, with_std=False).fit(
    pd.DataFrame(np.eye(len(_names)), columns=_names)
)
Transaction: Any = create_model("Transaction", **{name: (float, ...) for name in _names})

with sqlite3.connect(_log) as _connection:
    _connection.execute(
        "CREATE TABLE predictions (id TEXT PRIMARY KEY, time TEXT, probability REAL, input TEXT)"
    )

app = FastAPI()


@app.get("/livez")
def livez() -> dict[str, str]:
    """Say that it answers."""
    return {"status": "alive"}


@app.post("/predict")
def predict(transaction: Transaction) -> dict[str, Any]:
    """Score one transaction."""
    values = transaction.model_dump()
    frame = pd.DataFrame([values], columns=_names)
    scaled = pd.DataFrame(_scaler.transform(frame), columns=_names)
    probability = float(np.asarray(_booster.predict(scaled))[0])
    row = (str(uuid.uuid4()), datetime.now(UTC).isoformat(), probability, json.dumps(values))
    connection = sqlite3.connect(_log, timeout=30)
    with connection:
        connection.execute("INSERT INTO predictions VALUES (?, ?, ?, ?)", row)
    connection.close()
    return {"transaction_id": row[0], "prediction": int(probability >= 0.5), "probability": probability}

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fraud_kedro.profiling.scan import profile_transactions
from fraud_kedro.schema import TransactionSchema

DAY = 86_400


@pytest.fixture(scope="session")
def make_table():
    """A table of two days: one telling feature, one constant, one of three values, an amount."""

    def table(rows: int = 4_000, frauds: int = 200, seed: int = 0, **columns) -> pl.DataFrame:
        rng = np.random.default_rng(seed)
        label = rng.permutation(np.arange(rows) < frauds)
        frame = pl.DataFrame(
            {
                "when": np.sort(rng.uniform(0, 2 * DAY, rows)),
                "f_telling": rng.normal(size=rows) - 2.0 * label,
                "f_constant": np.full(rows, 7.5),
                "f_few": rng.integers(-1, 2, rows).astype(float),
                "paid": np.round(rng.lognormal(3, 1.5, rows), 2),
                "fraud": label.astype(np.int8),
            }
        )
        return frame.with_columns(**{name: pl.Series(values) for name, values in columns.items()})

    return table


@pytest.fixture(scope="session")
def resolve():
    def resolved(frame: pl.DataFrame, **time):
        return TransactionSchema(
            time={"column": "when", **time},
            amount="paid",
            label="fraud",
            transaction_id="id",
            sample_weight="weight",
            features=["f_*", "paid"],
        ).resolve(frame.columns)

    return resolved


@pytest.fixture(scope="session")
def profiled(resolve):
    def profile(frame: pl.DataFrame, duplicates: int = 0, **time):
        counts = {"rows": frame.height, "duplicates": duplicates, "frauds": 0}
        return profile_transactions(frame.lazy(), resolve(frame, **time), counts)

    return profile

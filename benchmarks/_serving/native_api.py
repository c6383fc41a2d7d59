"""BentoML as its first page shows it: one method, every setting at its default."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml

from fraud_kedro.champion.bundle import read_bundle
from fraud_kedro.champion.scorer import Scorer


@bentoml.service
class Native:
    """The same graph behind `@bentoml.api`."""

    def __init__(self) -> None:
        self._scorer = Scorer(read_bundle(Path(os.environ["BENCHMARK_BUNDLE"])))
        self._features = self._scorer.schema.features

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, transaction: dict[str, float]) -> dict[str, float]:
        """Score one transaction."""
        row = self._scorer.few([[transaction[name] for name in self._features]])
        return {"probability": float(self._scorer.probabilities(row)[0])}

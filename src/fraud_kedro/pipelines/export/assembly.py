"""What goes into a bundle beside the graph: reference, histogram, self-test, provenance."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import shlex
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime as ort
import polars as pl
from numpy.typing import NDArray

from fraud_kedro.algorithms.registry import ENSEMBLE
from fraud_kedro.champion.bundle import Histogram, SelfTest
from fraud_kedro.champion.scorer import session_options
from fraud_kedro.evaluation.thresholds import reaches
from fraud_kedro.pipelines.export.model_card import CHANGES, Origin
from fraud_kedro.pipelines.model_input import labelled_matrix, row_weights
from fraud_kedro.pipelines.training.scored import SCORE
from fraud_kedro.schema import ResolvedSchema

SELF_TEST_ROWS = 16
# The pipelines between the table and the registry.
WHOLE_WAY = {"data_processing", "tuning", "training", "export"}
# What kedro-mlflow notes of a run's choice of nodes, and the option that makes it. Those
# that only end a run earlier leave out nothing that a bundle is made of.
_PARTIAL = {
    "pipeline_names": "--pipelines",
    "tags": "--tags",
    "from_nodes": "--from-nodes",
    "node_names": "--nodes",
    "from_inputs": "--from-inputs",
    "load_versions": "--load-versions",
    "namespaces": "--namespaces",
    "only_missing_outputs": "--only-missing-outputs",
}
WEIGHT = "weight"

# Shares at the edges of such bins move when the ranking moves: the scores of so
# rare a class span many orders of magnitude.
SCORE_EDGES = (0.0, 1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)

_RECORDED_PACKAGES = (
    "fraud_kedro",
    "lightgbm",
    "numpy",
    "onnx",
    "onnxruntime",
    "optuna",
    "polars",
    "scikit-learn",
)


def graph_scores(graph: bytes, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of a graph, shape (n_transactions,), float32."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["probability"], {session.get_inputs()[0].name: features})
    return np.asarray(scores, dtype=np.float32)


def single_row_latency_ms(graph: bytes, features: NDArray[np.float32], rows: int = 200) -> float:
    """Median time of scoring one row, as the service does it: its session options, one row a call."""
    session = ort.InferenceSession(graph, session_options(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    seconds = []
    for start in range(rows):
        row = features[[start % len(features)]]
        began = perf_counter()
        session.run(["probability"], {name: row})
        seconds.append(perf_counter() - began)
    return 1000 * float(np.median(seconds))


def reference_parquet(validation_scores: pl.DataFrame, schema: ResolvedSchema, rows: int, seed: int) -> bytes:
    """A bounded sample of held-out rows with their scores and weights, as Parquet."""
    weights = pl.Series(WEIGHT, row_weights(validation_scores, schema))
    columns = [*schema.features, SCORE]
    frame = validation_scores.select(columns).with_columns(weights)
    if frame.height > rows:
        frame = frame.sample(rows, seed=seed)
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def background(
    validation_scores: pl.DataFrame, schema: ResolvedSchema, rows: int, seed: int
) -> tuple[tuple[float, ...], ...]:
    """Held-out rows, as the model reads them, that explanations compare with.

    Drawn by weight, so that they stand for all transactions. For ``rows`` 0 one
    row of weighted medians.
    """
    data = labelled_matrix(validation_scores, schema)
    if rows == 0:
        drawn = _medians(data.features, data.weights)[np.newaxis]
    else:
        generator = np.random.default_rng(seed)
        count = min(rows, int(np.count_nonzero(data.weights)))
        share = data.weights / data.weights.sum()
        drawn = data.features[generator.choice(len(data.features), count, replace=False, p=share)]
    # As short as float32 can be written.
    return tuple(tuple(float(str(value)) for value in row) for row in drawn)


def _medians(features: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    order = np.argsort(features, axis=0, kind="stable")
    reached = np.cumsum(weights[order], axis=0) >= weights.sum() / 2
    sorted_features = np.take_along_axis(features, order, axis=0)
    return np.asarray(sorted_features[reached.argmax(axis=0), np.arange(features.shape[1])])


def score_histogram(validation_scores: pl.DataFrame, schema: ResolvedSchema) -> Histogram:
    """Weighted shares of the held-out scores between fixed edges."""
    weights = row_weights(validation_scores, schema)
    counts, _ = np.histogram(validation_scores[SCORE].to_numpy(), bins=SCORE_EDGES, weights=weights)
    return Histogram(edges=SCORE_EDGES, shares=tuple((counts / counts.sum()).tolist()))


def flag_rate(validation_scores: pl.DataFrame, schema: ResolvedSchema, flag: float) -> float:
    """Weighted share of held-out transactions at or above the threshold."""
    weights = row_weights(validation_scores, schema)
    flagged = reaches(validation_scores[SCORE].to_numpy(), flag)
    return float(weights[flagged].sum() / weights.sum())


def self_test(graph: bytes, test: pl.DataFrame, schema: ResolvedSchema, seed: int) -> SelfTest:
    """Rows of both classes, with the probabilities the graph gives for them."""
    generator = np.random.default_rng(seed)
    labels = test[schema.label].to_numpy()
    drawn = np.concatenate(
        [generator.permutation(np.flatnonzero(labels == label))[: SELF_TEST_ROWS // 2] for label in (0, 1)]
    )
    rows = test.select(schema.features).to_numpy()[drawn].astype(np.float64)
    scores = graph_scores(graph, schema.model_matrix(rows))
    return SelfTest(
        rows=tuple(tuple(row) for row in rows.tolist()),
        probabilities=tuple(scores.astype(np.float64).tolist()),
    )


def package_versions(algorithm: str) -> dict[str, str]:
    """Versions of what made the model."""
    found = {name: version(name) for name in _RECORDED_PACKAGES}
    if algorithm in ("xgboost", ENSEMBLE):
        # The same library under two names: macOS has no wheel of the first.
        for name in ("xgboost-cpu", "xgboost"):
            with contextlib.suppress(PackageNotFoundError):
                found[name] = version(name)
    return dict(sorted(found.items()))


def git_revision() -> str | None:
    """The checked-out commit, with ``+changes`` where the files differ from it.

    None outside a repository or without git.
    """
    try:
        revision, changes = (
            subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603, S607
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "."])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{revision}{CHANGES}" if changes else revision


def run_origin() -> Origin:
    """How this run was started, as kedro-mlflow noted it about the active run."""
    import mlflow

    run = mlflow.active_run()
    tags = mlflow.get_run(run.info.run_id).data.tags if run else {}
    return Origin(_command(tags), lock_digest(), _partial(tags))


def _command(tags: Mapping[str, str]) -> str:
    """The command that makes models of these parameters from the table on.

    Without the parameters of the gate: they say what became of this model, and
    would force the next one into its place.
    """
    words = ["kedro", "run"]
    if tags.get("env"):
        words.append(f"--env={tags['env']}")
    given = _dotted(ast.literal_eval(tags.get("runtime_params", "{}")))
    kept = [f"{name}={value}" for name, value in given.items() if not name.startswith("export.promotion.")]
    if kept:
        words.append("--params=" + ",".join(kept))
    return shlex.join(words)


def _partial(tags: Mapping[str, str]) -> str:
    """The options that made a run start from what earlier runs left, empty if it went the whole way."""
    given = {name: ast.literal_eval(tags[name]) for name in _PARTIAL if tags.get(name)}
    names = set(given.get("pipeline_names", ()))
    if "__default__" in names or names >= WHOLE_WAY:
        del given["pipeline_names"]
    return shlex.join(
        _PARTIAL[name] if value is True else f"{_PARTIAL[name]}={','.join(map(str, value))}"
        for name, value in given.items()
    )


def _dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _dotted(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def lock_digest() -> str | None:
    """SHA-256 of the project's lock, None outside the project's folder."""
    lock = Path("locks/all.txt")
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None

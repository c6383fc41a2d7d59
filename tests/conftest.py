"""Real things that any test can use: a small bundle, an MLflow registry, a PostgreSQL server."""

from __future__ import annotations

import io
import math
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
import sqlalchemy as sa
from onnx import TensorProto, helper, numpy_helper
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from fraud_kedro.champion.bundle import (
    REGISTRATION_FILE,
    Bundle,
    BundleMetadata,
    DataRecord,
    DataSource,
    Histogram,
    Metric,
    Registration,
    SelfTest,
    Thresholds,
)
from fraud_kedro.champion.bundle_writer import write_bundle
from fraud_kedro.champion.registry import BUNDLE_TAG, CHECKSUM_TAG, MODEL_NAME
from fraud_kedro.schema import ResolvedSchema

# Of the quick run, which takes a minute.
_SHARED_RUN = (
    "tests/end_to_end/test_quick_run.py",
    "tests/end_to_end/test_readme.py",
    "tests/end_to_end/test_retraining.py",
)


class _ByFile(LoadFileScheduling):
    """Keeps each file in one process, and in the same one all files that share a run."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return _SHARED_RUN[0] if file in _SHARED_RUN else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByFile:
    """Choose how the processes of a suite share its tests."""
    config.option.loadscopereorder = False
    return _ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that are slow: at the end, one process would wait for another's."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


FEATURES = ("Time", *(f"V{i}" for i in range(1, 29)), "Amount")

MakeBundle = Callable[..., Bundle]


def _logistic_graph(coefficients: Sequence[float], intercept: float) -> bytes:
    """A logistic regression with its inputs clipped and its probability clipped away from 0 and 1."""
    wanted = len(coefficients)
    nodes = [
        helper.make_node("Clip", ["features", "lowest", "highest"], ["clipped"]),
        helper.make_node("MatMul", ["clipped", "coefficients"], ["products"]),
        helper.make_node("Add", ["products", "intercept"], ["log_odds"]),
        helper.make_node("Sigmoid", ["log_odds"], ["raw"]),
        helper.make_node("Clip", ["raw", "least", "most"], ["column"]),
        helper.make_node("Reshape", ["column", "flat"], ["probability"]),
    ]
    constants = {
        "coefficients": np.asarray(coefficients, dtype=np.float32).reshape(wanted, 1),
        "intercept": np.asarray([intercept], dtype=np.float32),
        "lowest": np.float32(-1e6),
        "highest": np.float32(1e6),
        "least": np.float32(1e-6),
        "most": np.float32(1 - 1e-6),
        "flat": np.asarray([-1], dtype=np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "champion",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", wanted])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _expected_probability(matrix: np.ndarray, coefficients: Sequence[float], intercept: float) -> np.ndarray:
    """What `_logistic_graph` must give, by NumPy."""
    log_odds = np.clip(matrix.astype(np.float64), -1e6, 1e6) @ np.asarray(coefficients) + intercept
    return np.clip(1 / (1 + np.exp(-log_odds)), 1e-6, 1 - 1e-6)


def _default_coefficients(features: Sequence[str]) -> list[float]:
    """Alternating signs, none dominant; time and amount count little."""
    return [
        1e-6 if name == "Time" else 1e-3 if name == "Amount" else 0.3 * math.cos(i)
        for i, name in enumerate(features)
    ]


@pytest.fixture(scope="session")
def logistic_graph() -> Callable[[Sequence[float], float], bytes]:
    """A function that makes an ONNX graph from coefficients and an intercept."""
    return _logistic_graph


@pytest.fixture(scope="session")
def logistic_probability() -> Callable[..., np.ndarray]:
    """What a bundle of `make_bundle` must give for a matrix, by NumPy."""

    def probability(
        matrix: np.ndarray, features: Sequence[str] = FEATURES, intercept: float = -3.0
    ) -> np.ndarray:
        return _expected_probability(matrix, _default_coefficients(features), intercept)

    return probability


@pytest.fixture(scope="session")
def make_bundle() -> MakeBundle:
    """A function that writes a real bundle to a folder."""

    def make(
        folder: Path,
        *,
        features: Sequence[str] = FEATURES,
        intercept: float = -3.0,
        algorithm: str = "logistic_regression",
        version: int | None = 1,
        thresholds: Thresholds | None = None,
        schema: ResolvedSchema | None = None,
        model: bytes | None = None,
        self_test: SelfTest | None = None,
        background: Sequence[Sequence[float]] | None = None,
        reference: bytes | None = None,
        scores: np.ndarray | None = None,
    ) -> Bundle:
        resolved = schema or ResolvedSchema(
            time="Time",
            time_use="hour_of_day",
            time_origin=datetime(2013, 9, 1, tzinfo=UTC),
            amount="Amount",
            label="Class",
            features=tuple(features),
        )
        coefficients = _default_coefficients(resolved.features)
        rows = np.random.default_rng(7).normal(scale=2.0, size=(16, len(resolved.features)))
        if resolved.time_index is not None:
            rows[:, resolved.time_index] = np.linspace(0, 400_000, 16)
        probabilities = _expected_probability(resolved.model_matrix(rows), coefficients, intercept)
        chosen = thresholds or Thresholds(flag=0.2, decline=0.8, policy="expected_cost")
        histogram, flag_rate = Histogram(edges=(0, 0.5, 1), shares=(0.9, 0.1)), 0.1
        if scores is not None:
            edges = (0.0, 1e-3, 1e-2, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
            shares = np.histogram(scores, bins=edges)[0] / len(scores)
            histogram, flag_rate = (
                Histogram(edges=edges, shares=tuple(shares)),
                (scores >= chosen.flag).mean(),
            )
        metadata = BundleMetadata(
            algorithm=algorithm,
            created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            schema=resolved,
            thresholds=chosen,
            metrics={"average_precision": Metric(value=0.8, low=0.7, high=0.9)},
            data=DataRecord(
                source=DataSource(kind="simulated", name="card transactions", location="drawn, seed 1"),
                fingerprint="0" * 64,
                test_fingerprint="1" * 64,
                rows=1000,
                frauds=10,
                weighted_rows=1000,
                weighted_frauds=10,
                time_from=0,
                time_to=172_792,
                test_time_from=140_000,
                split="temporal",
                refit="train_validation",
                hours=(1000.0,) * 24,
            ),
            score_histogram=histogram,
            flag_rate=float(flag_rate),
            self_test=self_test
            or SelfTest(
                rows=tuple(tuple(float(v) for v in row) for row in rows),
                probabilities=tuple(float(p) for p in probabilities),
            ),
            background=tuple(
                tuple(float(v) for v in row)
                for row in (resolved.model_matrix(rows) if background is None else background)
            ),
            parameters={"C": 0.1},
            versions={"onnx": onnx.__version__},
            seed=7,
        )
        return write_bundle(
            folder,
            metadata,
            model=model or _logistic_graph(coefficients, intercept),
            reference=reference or _reference(rows, resolved.features),
            card=f"# {algorithm}\n",
            registration=None if version is None else Registration(version=version, run_id=f"run{version}"),
        )

    return make


def _reference(rows: np.ndarray, features: Sequence[str]) -> bytes:
    import polars as pl

    buffer = io.BytesIO()
    pl.DataFrame(rows, schema=list(features), orient="row").write_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def draw_rows() -> Callable[..., np.ndarray]:
    """A function that draws raw features of the default schema, without any fraud in mind."""

    def draw(number: int, seed: int = 11) -> np.ndarray:
        rows = np.random.default_rng(seed).normal(scale=2.0, size=(number, len(FEATURES)))
        rows[:, 0] = np.linspace(0, 2 * 86_400 - 1, number).round()
        rows[:, -1] = np.round(np.exp(rows[:, -1]), 2) + 0.01
        return rows

    return draw


@pytest.fixture(scope="session")
def make_drift_bundle(
    make_bundle: MakeBundle,
    draw_rows: Callable[..., np.ndarray],
    logistic_probability: Callable[..., np.ndarray],
) -> MakeBundle:
    """A function that writes a bundle whose reference is of rows as `draw_rows` draws them."""
    import polars as pl

    def make(folder: Path, *, rows: int = 3000, weight: float = 1.0, **changes: object) -> Bundle:
        drawn = draw_rows(rows, seed=5)
        reduced = drawn.copy()
        reduced[:, 0] %= 86_400
        scores = logistic_probability(reduced)
        frame = pl.DataFrame(drawn, schema=list(FEATURES), orient="row")
        buffer = io.BytesIO()
        frame.with_columns(probability=scores, weight=pl.lit(weight)).write_parquet(buffer)
        return make_bundle(folder, **{"reference": buffer.getvalue(), "scores": scores, **changes})

    return make


class RealRegistry:
    """An MLflow store in a SQLite file, written as a training run writes it."""

    def __init__(self, folder: Path) -> None:
        # Here, because it takes seconds that few tests need.
        from mlflow import MlflowClient

        folder.mkdir(parents=True, exist_ok=True)
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.artifacts = folder / "artifacts"
        self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        self.experiment = self.client.create_experiment("fraud", artifact_location=self.artifacts.as_uri())
        self.client.create_registered_model(MODEL_NAME)

    def register(self, bundle: Bundle, *, checksum: str | None = None) -> int:
        """Log a bundle's files to a run and register them, as the export pipeline does."""
        run = self.client.create_run(self.experiment)
        algorithm = bundle.metadata.algorithm
        for file in sorted(bundle.folder.iterdir()):
            if file.name != REGISTRATION_FILE:
                self.client.log_artifact(run.info.run_id, str(file), f"bundle/{algorithm}")
        uri = f"runs:/{run.info.run_id}/bundle/{algorithm}"
        version = self.client.create_model_version(
            MODEL_NAME,
            uri,
            run_id=run.info.run_id,
            tags={
                "algorithm": algorithm,
                BUNDLE_TAG: uri,
                CHECKSUM_TAG: checksum or bundle.metadata.checksum,
            },
        )
        return int(version.version)

    def files(self, version: int) -> Path:
        """Where the files of a version's bundle lie."""
        found = self.client.get_model_version(MODEL_NAME, str(version))
        return self.artifacts / found.run_id / "artifacts" / "bundle" / found.tags["algorithm"]


@pytest.fixture(scope="session")
def _empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mlflow import MlflowClient

    # MLflow takes seconds to make its tables: made once, copied for each test.
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}").search_registered_models()
    return folder / "mlflow.db"


@pytest.fixture
def real_registry(tmp_path: Path, _empty_registry: Path) -> RealRegistry:
    """An MLflow registry without versions, below the root ``tmp_path``."""
    folder = tmp_path / "mlflow"
    folder.mkdir()
    shutil.copy(_empty_registry, folder / "mlflow.db")
    return RealRegistry(folder)


class PostgresServer:
    """A PostgreSQL server of its own, on loopback."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._data = folder / "data"
        # Its programs refuse to run as root.
        self._user = None
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            self._user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(folder, self._user)
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "-D", str(self._data), "-U", "fraud", "--auth=trust", "-E", "UTF8", "--locale=C")

    def start(self) -> None:
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories= -c fsync=off"
        )
        self._run(
            "pg_ctl", "-D", str(self._data), "-w", "-o", options, "-l", str(self._folder / "log"), "start"
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "fast", "stop")

    def database(self, name: str) -> str:
        """Make an empty database; gives its URL."""
        admin = sa.create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        admin.dispose()
        return f"postgresql://fraud@127.0.0.1:{self.port}/{name}"

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://fraud@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._user,
            cwd=self._folder,
        )


def _postgres_programs() -> Path | None:
    on_path = shutil.which("pg_ctl")
    if on_path and Path(on_path).resolve().with_name("initdb").exists():
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL server."""
    programs = _postgres_programs()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL's server programs are not installed, and CI must run these tests.")
        pytest.skip("PostgreSQL's server programs are not installed (Debian: apt-get install postgresql).")
    with tempfile.TemporaryDirectory(prefix="fraud-postgres-") as folder:
        server = PostgresServer(programs, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()

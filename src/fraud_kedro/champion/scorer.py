"""From a transaction to a probability and a decision: the graph of one bundle.

This is all that a process needs to score: NumPy and onnxruntime, no training
library and nothing unpickled.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from fraud_kedro.champion.bundle import Bundle, Thresholds
from fraud_kedro.errors import BundleError
from fraud_kedro.schema import SECONDS_PER_DAY, ResolvedSchema

Decision = Literal["approve", "review", "decline"]

OUTPUT = "probability"
SELF_TEST_TOLERANCE = 1e-6

_ERRORS_ONLY = 3

# A thread's part of fewer rows is done before another thread has begun.
_ROWS_WORTH_SPLITTING = 500

# They share no base class but Exception.
GRAPH_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class Scorer:
    """A bundle's graph in memory, ready to score.

    Safe to share between threads: onnxruntime sessions are, and nothing else
    here changes after construction.

    Parameters
    ----------
    bundle : Bundle
        As `read_bundle` returns it.
    thresholds : Thresholds, optional
        Decide by these in place of the bundle's own.
    threads : int
        Over how many threads a batch is split. One row gains nothing from more
        than one.

    Raises
    ------
    BundleError
        If the graph does not load, or does not take the schema's features and
        give ``probability``.
    """

    def __init__(self, bundle: Bundle, *, thresholds: Thresholds | None = None, threads: int = 1) -> None:
        self.metadata = bundle.metadata
        self.schema: ResolvedSchema = bundle.metadata.schema_
        self.thresholds = thresholds or bundle.metadata.thresholds
        self._where = bundle.folder
        self._flag = float(np.float32(self.thresholds.flag))
        self._decline = float(np.float32(self.thresholds.decline))
        self._session = _session(bundle)
        self._split = SplitRows(self._scores, threads) if threads > 1 else None
        self._input = self._checked_input()
        self._run = self._session.run
        self._outputs = [OUTPUT]
        self._pack = struct.Struct(f"={len(self.schema.features)}f").pack
        self._time = self.schema.time_index
        self._time_use = self.schema.time_use

    def _checked_input(self) -> str:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        wanted = len(self.schema.features)
        fits = (
            len(inputs) == 1
            and inputs[0].type == "tensor(float)"
            and len(inputs[0].shape) == 2
            and (not isinstance(inputs[0].shape[1], int) or inputs[0].shape[1] == wanted)
        )
        if not fits:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise BundleError(
                f"The graph at {self._where} reads {found or 'nothing'}; its schema wants one float32 tensor "
                f"of shape (n, {wanted}). Export the model again."
            )
        if [o.name for o in outputs if o.type == "tensor(float)" and len(o.shape) == 1] != [OUTPUT]:
            found = ", ".join(f"{o.name} {o.type} {o.shape}" for o in outputs)
            raise BundleError(
                f"The graph at {self._where} gives {found or 'nothing'}; wanted is {OUTPUT!r}, float32 of "
                "shape (n,). Export the model again."
            )
        return str(inputs[0].name)

    def few(self, rows: Sequence[Sequence[float]]) -> NDArray[np.float32]:
        """Make what the model reads for some transactions: `matrix`, quicker up to about 100 of them.

        Parameters
        ----------
        rows : sequence of shape (n_transactions, n_features)
            Raw features in the schema's order.

        Returns
        -------
        ndarray of shape (n_transactions, n_features), float32

        Raises
        ------
        OverflowError
            If a value lies beyond float32.
        """
        pack, time = self._pack, self._time
        if time is None or self._time_use == "raw":
            packed = [pack(*values) for values in rows]
        else:
            reduced = second_of_day if self._time_use == "hour_of_day" else _nothing
            packed = [pack(*values[:time], reduced(values[time]), *values[time + 1 :]) for values in rows]
        return np.frombuffer(b"".join(packed), dtype=np.float32).reshape(len(packed), -1)

    def matrix(self, rows: Sequence[Sequence[float]] | NDArray[np.float64]) -> NDArray[np.float32]:
        """Make what the model reads for many transactions.

        Parameters
        ----------
        rows : sequence of shape (n_transactions, n_features)
            Raw features in the schema's order.

        Returns
        -------
        ndarray of shape (n_transactions, n_features), float32
            A value beyond float32 becomes infinite.
        """
        values = np.asarray(rows, dtype=np.float64).reshape(-1, len(self.schema.features))
        with np.errstate(over="ignore"):
            return self.schema.model_matrix(values)

    def probabilities(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score transactions.

        Parameters
        ----------
        matrix : ndarray of shape (n_transactions, n_features), float32
            As `row` or `matrix` makes it.

        Returns
        -------
        ndarray of shape (n_transactions,), float32
            Calibrated probability of fraud.
        """
        return self._scores(matrix) if self._split is None else self._split(matrix)

    def _scores(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._run(self._outputs, {self._input: matrix})[0]
        return scores

    def decision(self, probability: float) -> Decision:
        """Say what to do with a transaction; a probability that is no number is declined."""
        if probability < self._flag:
            return "approve"
        if probability < self._decline:
            return "review"
        return "decline"

    def prediction(self, probability: float) -> int:
        """Give 1 (fraud) from the flag threshold on, else 0."""
        return 0 if probability < self._flag else 1

    def self_test(self) -> None:
        """Score the rows the bundle carries and compare with what it promises.

        Raises
        ------
        BundleError
            If a probability differs by more than 1e-6, or the graph cannot run.
        """
        test = self.metadata.self_test
        try:
            found = self.probabilities(self.matrix(test.rows)).astype(np.float64)
        except GRAPH_ERRORS as error:
            raise BundleError(
                f"The model at {self._where} cannot score its self-test: {error}. Export the model again."
            ) from error
        if found.shape != (len(test.probabilities),):
            raise BundleError(
                f"The model at {self._where} gives {found.shape} probabilities for {len(test.rows)} rows of "
                f"its self-test, promised are {len(test.probabilities)}. Export the model again."
            )
        difference = np.abs(found - np.asarray(test.probabilities, dtype=np.float64))
        # A comparison that NaN fails.
        if not np.all(difference <= SELF_TEST_TOLERANCE):
            worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
            raise BundleError(
                f"The model at {self._where} fails its self-test: row {worst} scores {found[worst]:.9g}, "
                f"promised is {test.probabilities[worst]:.9g} (tolerance {SELF_TEST_TOLERANCE:g}). "
                "Export the model again, with the onnxruntime it is served by."
            )


def second_of_day(seconds: float) -> float:
    """Reduce seconds to those since midnight, in [0, 86400) also as float32.

    The same rule as `ResolvedSchema.model_matrix`, for one value.
    """
    second = seconds % SECONDS_PER_DAY
    # float32 steps by 1/128 s here, so only the last step can round up to midnight.
    if second > SECONDS_PER_DAY - 1 and np.float32(second) >= SECONDS_PER_DAY:
        return 0.0
    return second


class SplitRows:
    """Scores a batch in equal parts, one a thread.

    onnxruntime's own threads wait for each other after every 128 rows of a tree
    ensemble; a session on one thread that several share does not
    (`benchmarks/inference.py` measures both).

    Parameters
    ----------
    score : callable
        From a matrix to its scores; safe to call from several threads at once.
    threads : int
    """

    def __init__(self, score: Callable[[NDArray[np.float32]], NDArray[np.float32]], threads: int) -> None:
        self._score = score
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="score")

    def __call__(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of the rows, in their order."""
        if len(matrix) < _ROWS_WORTH_SPLITTING:
            return self._score(matrix)
        return np.concatenate(list(self._pool.map(self._score, np.array_split(matrix, self._threads))))


def session_options() -> ort.SessionOptions:
    """How a champion's graph is run; `benchmarks/inference.py` measures these against others."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return options


def _session(bundle: Bundle) -> ort.InferenceSession:
    options = session_options()
    try:
        return ort.InferenceSession(bundle.model, sess_options=options, providers=["CPUExecutionProvider"])
    except GRAPH_ERRORS as error:
        raise BundleError(
            f"The graph at {bundle.folder} does not load: {error}. Export the model again, or install the "
            f"onnxruntime it was made with (here: {ort.__version__})."
        ) from error


def _nothing(_time: float) -> float:
    return 0.0

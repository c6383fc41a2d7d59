"""The gate between a candidate and the alias ``champion``: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.champion.bundle import BundleMetadata, Metric
from fraud_kedro.evaluation.bootstrap import paired_difference
from fraud_kedro.evaluation.metrics import OBJECTIVES, ScoredRows
from fraud_kedro.pipelines.export.options import Promotion, PromotionOptions


@dataclass(frozen=True)
class Contender:
    """One side of the comparison.

    Attributes
    ----------
    version : int
    metadata : BundleMetadata
    scores : ndarray of shape (n_test,), float32, optional
        Of its evaluation twin on the candidate's test rows, which the twin has
        not seen; None where it may have.
    """

    version: int
    metadata: BundleMetadata
    scores: NDArray[np.float32] | None = None

    def false_positive_rate(self, labels: NDArray[np.int8], weights: NDArray[np.float64]) -> float | None:
        """Weighted share of legitimate rows from its flag threshold on; None without scores or such rows."""
        legitimate = np.where(labels == 0, weights, 0.0)
        if self.scores is None or legitimate.sum() == 0:
            return None
        flagged = self.scores >= np.float32(self.metadata.thresholds.flag)
        return float(legitimate[flagged].sum() / legitimate.sum())


def decide(
    candidate: Contender,
    reigning: Contender | None,
    labels: NDArray[np.int8],
    weights: NDArray[np.float64],
    *,
    objective: str,
    latency_ms: float,
    options: PromotionOptions,
    seed: int,
) -> Promotion:
    """Decide whether the candidate becomes the champion.

    Parameters
    ----------
    candidate, reigning : Contender
        `reigning` is None where no version has the alias.
    labels, weights : ndarray of shape (n_test,)
        Of the test rows.
    objective : str
        The selection metric.
    latency_ms : float
        Median time of one row of the candidate's graph.
    options : PromotionOptions
    seed : int
        Of the bootstrap.
    """
    rate = candidate.false_positive_rate(labels, weights)
    reigning_rate = reigning.false_positive_rate(labels, weights) if reigning else None

    def outcome(kind: str, reason: str, difference: Metric | None = None) -> Promotion:
        return Promotion(
            outcome=kind,
            algorithm=candidate.metadata.algorithm,
            version=candidate.version,
            reigning_version=reigning.version if reigning else None,
            reason=reason,
            difference=difference,
            latency_ms=latency_ms,
            false_positive_rate=rate,
            reigning_false_positive_rate=reigning_rate,
        )

    if options.force:
        return outcome("promoted", f"forced: {options.why}")
    error = candidate.metadata.metrics["expected_calibration_error"].value
    if error > options.max_calibration_error:
        return outcome(
            "rejected",
            f"calibration error {error:.4f} is above promotion.max_calibration_error "
            f"({options.max_calibration_error})",
        )
    if latency_ms > options.max_latency_ms:
        return outcome(
            "rejected",
            f"one row takes {latency_ms:.2f} ms, more than promotion.max_latency_ms "
            f"({options.max_latency_ms})",
        )
    if options.mode == "manual":
        return outcome("challenger", "promotion.mode is manual: waits for `kedro champion approve`")
    if reigning is None:
        return outcome("promoted", "the first version")
    obstacle, replaces_simulated = _kinship(candidate.metadata, reigning.metadata)
    if replaces_simulated:
        return outcome("promoted", "trained on real data, the reigning champion on simulated data")
    if obstacle:
        return outcome("challenger", f"{obstacle}: promote it with promotion.force and promotion.why")
    if candidate.scores is None or reigning.scores is None:
        return outcome(
            "challenger",
            "the reigning champion may have been trained on the candidate's test rows, so the two cannot be "
            "compared: promote it with promotion.force and promotion.why",
        )
    rise = 0.0 if rate is None or reigning_rate is None else rate - reigning_rate
    if rise > options.max_false_positive_rise:
        return outcome(
            "rejected",
            f"it flags {rise:.3%} more of the legitimate transactions than version {reigning.version}: above "
            f"promotion.max_false_positive_rise ({options.max_false_positive_rise})",
        )
    value, low, high = paired_difference(
        OBJECTIVES[objective],
        ScoredRows(labels, candidate.scores.astype(np.float64), weights),
        ScoredRows(labels, reigning.scores.astype(np.float64), weights),
        repetitions=options.repetitions,
        seed=seed,
    )
    difference = Metric(value=value, low=low, high=high)
    shown = f"{objective} {value:+.4f} ({low:+.4f} to {high:+.4f}) against version {reigning.version}"
    if value >= 0 and low >= -options.margin:
        return outcome("promoted", shown, difference)
    short = "worse" if value < 0 else f"the interval reaches below -{options.margin}"
    return outcome("challenger", f"{shown}: {short}", difference)


def has_not_seen(reigning: BundleMetadata, candidate: BundleMetadata) -> bool:
    """Whether the reigning champion's evaluation twin was fitted without the candidate's test rows.

    It was if both set the same rows aside, or if all it learned from is older.
    """
    if reigning.data.test_fingerprint == candidate.data.test_fingerprint:
        return True
    ours, theirs = candidate.data.source, reigning.data.source
    learned = [part.time_to for name, part in reigning.data.parts.items() if name != "test"]
    return (
        candidate.data.split == "temporal"
        and (ours.kind, ours.name) == (theirs.kind, theirs.name)
        and bool(learned)
        and max(learned) < candidate.data.test_time_from
    )


def _kinship(candidate: BundleMetadata, reigning: BundleMetadata) -> tuple[str, bool]:
    """What stands between two models of different origin, and whether real replaces simulated."""
    if candidate.schema_.hash != reigning.schema_.hash:
        return "its schema differs from the reigning champion's", False
    kinds = (reigning.data.source.kind, candidate.data.source.kind)
    if kinds == ("simulated", "real"):
        return "", True
    if kinds == ("real", "simulated"):
        return "trained on simulated data, the reigning champion on real data", False
    ours, theirs = candidate.data.source.name, reigning.data.source.name
    if ours != theirs:
        return f"trained on {ours!r}, the reigning champion on {theirs!r}", False
    return "", False

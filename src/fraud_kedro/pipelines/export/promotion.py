"""The gate between a candidate and the alias ``champion``: a pure decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.champion.bundle import BundleMetadata, Metric
from fraud_kedro.evaluation.measures import Measure, selection_measure
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.evaluation.selection import paired_figures
from fraud_kedro.evaluation.slices import by_amount
from fraud_kedro.evaluation.thresholds import Costs, reaches
from fraud_kedro.pipelines.export.options import Limit, Promotion, PromotionOptions, SliceRecall
from fraud_kedro.pipelines.export.parity import ParityReport


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
    unjudged : str
        What else its scores are missing for, if they are.
    """

    version: int
    metadata: BundleMetadata
    scores: NDArray[np.float32] | None = None
    unjudged: str = ""

    def false_positive_rate(self, labels: NDArray[np.int8], weights: NDArray[np.float64]) -> float | None:
        """Weighted share of legitimate rows from its flag threshold on; None without scores or such rows."""
        legitimate = np.where(labels == 0, weights, 0.0)
        if self.scores is None or legitimate.sum() == 0:
            return None
        return float(legitimate[self.flagged()].sum() / legitimate.sum())

    def flagged(self) -> NDArray[np.bool_]:
        """Which test rows are at or above its flag threshold, compared as float32."""
        if self.scores is None:
            raise ValueError(f"version {self.version} has not been scored")
        return reaches(self.scores, self.metadata.thresholds.flag)


@dataclass(frozen=True)
class GateRows:
    """What both sides are judged on.

    Attributes
    ----------
    labels, weights, amounts : ndarray of shape (n_test,)
    """

    labels: NDArray[np.int8]
    weights: NDArray[np.float64]
    amounts: NDArray[np.float64]


def decide(
    candidate: Contender,
    reigning: Contender | None,
    rows: GateRows,
    *,
    figure: str,
    costs: Costs,
    latency_ms: float,
    parity: ParityReport,
    options: PromotionOptions,
    seed: int,
) -> Promotion:
    """Decide whether the candidate becomes the champion.

    Parameters
    ----------
    candidate, reigning : Contender
        `reigning` is None where no version has the alias.
    rows : GateRows
        The candidate's test rows.
    figure : str
        The selection metric: one of the ranking, or `savings`.
    costs : Costs
        What savings are made of.
    latency_ms : float
        Median time of one row of the candidate's graph.
    parity : ParityReport
        Of the candidate's graph.
    options : PromotionOptions
    seed : int
        Of the bootstrap.
    """
    obstacle, replaces_simulated = (
        _kinship(candidate.metadata, reigning.metadata) if reigning else ("", False)
    )
    rate = candidate.false_positive_rate(rows.labels, rows.weights)
    reigning_rate = reigning.false_positive_rate(rows.labels, rows.weights) if reigning else None
    limits = {
        "calibration_error": Limit(
            value=candidate.metadata.metrics["expected_calibration_error"].value,
            at_most=options.max_calibration_error,
        ),
        "latency_ms": Limit(value=latency_ms, at_most=options.max_latency_ms),
        "parity": Limit(value=parity.max_difference, at_most=parity.tolerance),
    }
    slices: dict[str, SliceRecall] = {}
    if reigning is not None and not obstacle and not replaces_simulated:
        slices = slice_recalls(candidate, reigning, rows, options)
        limits |= _relative_limits(slices, rate, reigning_rate, options)

    def outcome(kind: str, reason: str, difference: Metric | None = None) -> Promotion:
        return Promotion(
            outcome=kind,
            forced=options.force,
            algorithm=candidate.metadata.algorithm,
            version=candidate.version,
            reigning_version=reigning.version if reigning else None,
            reason=reason,
            difference=difference,
            limits=limits,
            slices=slices,
            false_positive_rate=rate,
            reigning_false_positive_rate=reigning_rate,
        )

    if options.force:
        return outcome("promoted", f"forced: {options.why}")
    for name, limit in limits.items():
        if not limit.holds:
            return outcome("rejected", _missed(name, limit))
    if options.mode == "manual":
        return outcome("challenger", "promotion.mode is manual: waits for `kedro champion approve`")
    if reigning is None:
        return outcome("promoted", "the first version")
    if replaces_simulated:
        return outcome("promoted", "trained on real data, the reigning champion on simulated data")
    if obstacle:
        return outcome("challenger", f"{obstacle}: promote it with promotion.force and promotion.why")
    if candidate.scores is None or reigning.scores is None:
        why = reigning.unjudged or "the reigning champion may have been trained on the candidate's test rows"
        return outcome(
            "challenger",
            f"{why}, so the two cannot be compared: promote it with promotion.force and promotion.why",
        )
    value, ends = paired_figures(
        {
            "candidate": _measured(candidate, rows, figure, costs),
            "reigning": _measured(reigning, rows, figure, costs),
        },
        figure,
        repetitions=options.repetitions,
        seed=seed,
    ).difference("candidate", "reigning")
    if ends is None:
        return outcome(
            "challenger", f"{figure} {value:+.4f}: too few frauds for an interval", Metric(value=value)
        )
    low, high = ends
    difference = Metric(value=value, low=low, high=high)
    shown = f"{figure} {value:+.4f} ({low:+.4f} to {high:+.4f}) against version {reigning.version}"
    if value >= 0 and low >= -options.margin:
        return outcome("promoted", shown, difference)
    short = "worse" if value < 0 else f"the interval reaches below -{options.margin}"
    return outcome("challenger", f"{shown}: {short}", difference)


def _measured(contender: Contender, rows: GateRows, figure: str, costs: Costs) -> tuple[ScoredRows, Measure]:
    if contender.scores is None:
        raise ValueError(f"version {contender.version} has not been scored")
    scored = ScoredRows(rows.labels, contender.scores.astype(np.float64), rows.weights, rows.amounts)
    return scored, selection_measure(figure, scored, contender.metadata.thresholds, costs)


def slice_recalls(
    candidate: Contender, reigning: Contender, rows: GateRows, options: PromotionOptions
) -> dict[str, SliceRecall]:
    """Weighted recall of both sides by band of amounts, where a band has frauds enough."""
    if candidate.scores is None or reigning.scores is None:
        return {}
    caught = candidate.flagged(), reigning.flagged()
    found = {}
    for name, inside in by_amount(rows.amounts, options.amount_bands):
        frauds = inside & (rows.labels == 1)
        weights = np.where(frauds, rows.weights, 0.0)
        if int(frauds.sum()) < options.slice_frauds or weights.sum() == 0:
            continue
        recall, reigning_recall = (float(weights[side].sum() / weights.sum()) for side in caught)
        found[name] = SliceRecall(frauds=int(frauds.sum()), recall=recall, reigning_recall=reigning_recall)
    return found


def _relative_limits(
    slices: Mapping[str, SliceRecall],
    rate: float | None,
    reigning_rate: float | None,
    options: PromotionOptions,
) -> dict[str, Limit]:
    limits = {}
    if rate is not None and reigning_rate is not None:
        limits["false_positive_rise"] = Limit(
            value=rate - reigning_rate, at_most=options.max_false_positive_rise
        )
    drops = {name: part.reigning_recall - part.recall for name, part in slices.items()}
    if drops:
        worst = max(drops, key=lambda name: drops[name])
        limits["slice_recall_drop"] = Limit(
            value=drops[worst], at_most=options.max_slice_recall_drop, where=worst
        )
    return limits


def _missed(name: str, limit: Limit) -> str:
    """Say which limit was missed, by how much, and the parameter that sets it."""
    return {
        "calibration_error": f"calibration error {limit.value:.4f} is above "
        f"promotion.max_calibration_error ({limit.at_most})",
        "latency_ms": f"one row takes {limit.value:.2f} ms, more than promotion.max_latency_ms "
        f"({limit.at_most})",
        "parity": f"graph and model differ by {limit.value:.2g}, more than parity_tolerance "
        f"({limit.at_most})",
        "false_positive_rise": f"it flags {limit.value:.3%} more of the legitimate transactions than the "
        f"reigning champion: above promotion.max_false_positive_rise ({limit.at_most})",
        "slice_recall_drop": f"of the frauds with amounts {limit.where} it finds {limit.value:.1%} less than "
        f"the reigning champion: above promotion.max_slice_recall_drop ({limit.at_most})",
    }[name]


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

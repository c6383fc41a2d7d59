"""The model card: what a reviewer reads before a model decides about customers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fraud_kedro.algorithms.registry import ENSEMBLE
from fraud_kedro.champion.bundle import BundleMetadata, DataRecord, Metric, Thresholds
from fraud_kedro.evaluation.slices import SLICE_FIGURES, Slice
from fraud_kedro.evaluation.wording import figure_title, interval_text, listed, metric_text
from fraud_kedro.pipelines.export.parity import ParityReport
from fraud_kedro.pipelines.training.options import NOISE, Comparison, Difference, Evaluation

_REFIT = {
    "train": "the training part",
    "train_validation": "the training and validation parts",
    "all": "every row, after the same recipe was judged on test rows it had not seen",
}

# After a commit: the files differed from it.
CHANGES = "+changes"


@dataclass(frozen=True)
class Origin:
    """How the run that made the model was started.

    Attributes
    ----------
    command : str
        That runs everything from the table on.
    lock : str or None
        SHA-256 of the lock file, None where there is none.
    partial : str
        The options by which the run began with what earlier runs had made; empty
        where it went the whole way.
    """

    command: str
    lock: str | None = None
    partial: str = ""


def model_card(metadata: BundleMetadata, parity: ParityReport, comparison: Comparison, origin: Origin) -> str:
    """Write the card as Markdown.

    Parameters
    ----------
    metadata : BundleMetadata
    parity : ParityReport
    comparison : Comparison
        The model is one of its candidates.
    origin : Origin
    """
    (evaluation,) = (each for each in comparison.candidates if each.algorithm == metadata.algorithm)
    sections = {
        "Intended use": _intended_use(metadata),
        "Data": _data(metadata.data, evaluation),
        "Figures on test rows": _figures(metadata.metrics, evaluation),
        "Decisions": _decisions(metadata, evaluation),
        "Calibration": _calibration(comparison, evaluation),
        "Slices": _slices(evaluation.slices),
        "Other candidates": _other_candidates(comparison, evaluation),
        "Export": _export(parity),
        "Limits": _limits(metadata.data, evaluation),
        "Reproduce": _reproduce(metadata, origin),
    }
    lines = [
        f"# {metadata.model_name}: {metadata.algorithm}",
        "",
        f"Made {metadata.created:%Y-%m-%d %H:%M} UTC from **{metadata.data.source.kind}** data.",
        *_ensemble(comparison, evaluation),
    ]
    for title, body in sections.items():
        lines += ["", f"## {title}", "", *body]
    return "\n".join([*lines, ""])


def _members(comparison: Comparison, evaluation: Evaluation) -> dict[str, str]:
    """Each member of an ensemble with its calibration; empty for another model."""
    if evaluation.algorithm != ENSEMBLE:
        return {}
    methods = {each.algorithm: each.calibration for each in comparison.candidates}
    return {name: methods.get(name, "") for name in evaluation.parameters}


def _ensemble(comparison: Comparison, evaluation: Evaluation) -> list[str]:
    members = _members(comparison, evaluation)
    if not members:
        return []
    others = [
        each.algorithm
        for each in comparison.candidates
        if each.algorithm not in members and each is not evaluation
    ]
    left = (
        f"Left out: {listed(others)}, without which the mean ranks clearly better on validation rows."
        if others
        else "No candidate was left out."
    )
    return ["", f"The mean of the calibrated log-odds of {listed(members)}. {left}"]


def _intended_use(metadata: BundleMetadata) -> list[str]:
    lines = [
        "Scores single card transactions in real time: a calibrated probability of fraud and one of "
        "the decisions approve, review, decline. It supports a fraud team's work and is no evidence "
        "against a customer by itself."
    ]
    if metadata.data.source.kind == "simulated":
        lines += [
            "",
            "**Trained on simulated transactions: for trying out and testing, not for decisions "
            "about real ones.**",
        ]
    return lines


def _data(data: DataRecord, evaluation: Evaluation) -> list[str]:
    parts = [
        (name, f"{part.rows:,}", f"{part.frauds:,}", f"{part.time_from:,.0f}", f"{part.time_to:,.0f}")
        for name, part in data.parts.items()
    ]
    lines = [
        f"Source `{data.source.location}`, fingerprint `{data.fingerprint}`, split {data.split}, "
        f"{data.duplicates_dropped:,} duplicates dropped.",
        "",
        *_table(("part", "rows", "frauds", "from (s)", "to (s)"), parts),
        "",
        f"Fitted on {_REFIT[data.refit or 'train']}. "
        "Calibrated on validation rows that the fit had not seen; they chose the thresholds too.",
    ]
    if evaluation.rows is not None and evaluation.rows.weighted:
        lines += [
            "",
            f"The rows have weights: the test rows stand for {evaluation.rows.transactions:,.0f} "
            f"transactions, {evaluation.rows.weighted_frauds:,.0f} of them frauds.",
        ]
    return lines


def _figures(metrics: Mapping[str, Metric], evaluation: Evaluation) -> list[str]:
    rows = [
        (figure_title(name), f"{metric.value:.4g}", interval_text(metric.low, metric.high))
        for name, metric in metrics.items()
    ]
    lines = [
        *_table(("figure", "value", "interval"), rows),
        "",
        "Weighted where the table has weights. Intervals: 95 %, stratified bootstrap.",
    ]
    for name, reason in evaluation.left_out.items():
        lines += ["", f"Left out: {figure_title(name)}, which {reason}."]
    return lines


def _decisions(metadata: BundleMetadata, evaluation: Evaluation) -> list[str]:
    thresholds, costs = metadata.thresholds, evaluation.costs
    lines = [
        f"Policy `{thresholds.policy}`: review from {thresholds.flag:.6g}, decline from "
        f"{thresholds.decline:.6g}. On held-out rows {metadata.flag_rate:.3%} of transactions "
        "are flagged.",
        "",
        "A missed fraud costs its amount, "
        f"a review {costs.review_cost:g}, a false decline {costs.false_decline_cost:g}.",
    ]
    if evaluation.decisions:
        counts = [
            (name, *(f"{found[label]:,.0f}" for label in ("legitimate", "fraud")))
            for name, found in evaluation.decisions.items()
        ]
        lines += ["", *_table(("on test rows", "legitimate", "fraud"), counts)]
        lines += _unreached(thresholds, evaluation)
    return lines


def _unreached(thresholds: Thresholds, evaluation: Evaluation) -> list[str]:
    review, decline = (sum(evaluation.decisions[name].values()) for name in ("review", "decline"))
    if review + decline == 0:
        return ["", f"**No test row reaches `flag` ({thresholds.flag:.6g}): nothing is caught.**"]
    if decline == 0:
        return ["", f"No test row reaches `decline` ({thresholds.decline:.6g})."]
    return []


def _calibration(comparison: Comparison, evaluation: Evaluation) -> list[str]:
    names = ("expected_calibration_error", "brier_score", "log_loss")
    found = [(name, evaluation.test[name]) for name in names if name in evaluation.test]
    shown = "; ".join(f"{figure_title(name)} {metric_text(metric)}" for name, metric in found)
    method = f"Method `{evaluation.calibration}`." if evaluation.calibration else "As the model has it."
    lines = [f"{method} On test rows: {shown}." if shown else method]
    if members := _members(comparison, evaluation):
        own = ", ".join(f"{name} `{kind or 'as it is'}`" for name, kind in members.items())
        lines += ["", f"That is of the members' mean; each member has its own before: {own}."]
    return lines


def _slices(slices: Sequence[Slice]) -> list[str]:
    if not slices:
        return ["None were judged."]
    rows = [
        (
            f"{part.by}: {part.band}",
            f"{part.rows:,}",
            f"{part.frauds:,}",
            *(metric_text(part.figures.get(name)) for name in SLICE_FIGURES),
        )
        for part in slices
    ]
    heads = ("slice", "rows", "frauds", *(figure_title(name) for name in SLICE_FIGURES))
    return [
        *_table(heads, rows),
        "",
        "Figures are left out where a slice has no fraud, intervals where more than one resample of "
        "twenty has none.",
    ]


def _other_candidates(comparison: Comparison, evaluation: Evaluation) -> list[str]:
    figure = comparison.figure
    differences = {each.second: each for each in comparison.between(evaluation.algorithm, figure)}
    rows = [
        (
            f"**{each.algorithm}**" if each is evaluation else each.algorithm,
            metric_text(each.validation.get(figure)),
            metric_text(each.test.get(figure)),
            _difference(differences.get(each.algorithm)),
        )
        for each in comparison.candidates
    ]
    title = figure_title(figure)
    heads = ("candidate", f"{title}, validation", f"{title}, test", "this one minus it, test")
    lines = _table(heads, rows)
    if comparison.reason:
        lines += ["", f"{comparison.champion} was chosen: {comparison.reason}."]
    if differences:
        lines += ["", comparison.verdict(evaluation.algorithm)]
    return lines


def _difference(found: Difference | None) -> str:
    if found is None:
        return ""
    ends = interval_text(found.low, found.high, "+")
    verdict = NOISE if found.verdict == NOISE else f"{found.verdict} is better"
    return f"{found.value:+.4g} ({ends}): {verdict}" if ends else f"{found.value:+.4g}: {verdict}"


def _export(parity: ParityReport) -> list[str]:
    return [
        "The ONNX graph was compared with the native model on "
        + ", ".join(f"{rows.rows:,} {name} rows" for name, rows in parity.row_sets.items())
        + f": largest difference in probability {parity.max_difference:.2g}, "
        "every decision the same."
    ]


def _limits(data: DataRecord, evaluation: Evaluation) -> list[str]:
    judged = f", {evaluation.rows.frauds:,} of them among the test rows" if evaluation.rows else ""
    return [
        f"- {data.frauds:,} frauds among {data.rows:,} rows{judged}: see the intervals before comparing "
        "models.",
        f"- Learned from transactions between {data.time_from:,.0f} and {data.time_to:,.0f} seconds of "
        "the table's clock; fraud changes, so watch drift and retrain.",
        "- Reasons are contributions to the calibrated log-odds: they explain the score, not the cause of "
        "a fraud.",
        "- Missing values are refused, not imputed.",
    ]


def _reproduce(metadata: BundleMetadata, origin: Origin) -> list[str]:
    lock = f" (`locks/all.txt`, SHA-256 `{origin.lock}`)" if origin.lock else ""
    revision = metadata.git_revision or "unknown"
    commit = f"commit `{revision.removesuffix(CHANGES)}`"
    if revision.endswith(CHANGES):
        commit += " and uncommitted changes, which are not kept"
    if origin.partial:
        claim = (
            f"The run was partial (`{origin.partial}`): the parts before came from earlier runs, perhaps of "
            f"other parameters, data or code. It had the packages of the lock{lock}, and {commit}. This "
            "command makes all parts anew, and may give another model:"
        )
    else:
        claim = f"With the same data, the packages of the lock{lock}, and {commit}:"
    return [
        claim,
        "",
        "```shell",
        origin.command,
        "```",
        "",
        f"Seed {metadata.seed}. A search that ends by a number of trials gives the same model again, one "
        "that ends by time may not. Parameters:",
        "",
        *_table(
            ("parameter", "value"),
            [(f"`{name}`", _shown(value)) for name, value in sorted(metadata.parameters.items())],
        ),
        "",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in metadata.versions.items()) + ".",
    ]


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose first column is text and whose others are numbers."""
    return [_line(heads), "|---|" + "---:|" * (len(heads) - 1), *map(_line, rows)]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

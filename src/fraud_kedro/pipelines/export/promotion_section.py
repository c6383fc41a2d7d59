"""The gate's decision for people: a section of the model card, as Markdown."""

from __future__ import annotations

from fraud_kedro.pipelines.export.options import Promotion

_TITLES = {
    "calibration_error": "calibration error",
    "latency_ms": "one row, ms",
    "parity": "difference between graph and model",
    "false_positive_rise": "more legitimate transactions flagged",
    "slice_recall_drop": "less recall in the worst band of amounts",
}


def promotion_section(promotion: Promotion) -> str:
    """Outcome, hard limits and recall by band of amounts."""
    against = (
        f"Judged against version {promotion.reigning_version}."
        if promotion.reigning_version is not None
        else "Judged without a reigning champion."
    )
    return "\n".join(
        [
            "## Promotion",
            "",
            f"**{promotion.outcome.capitalize()}**: {promotion.reason}. {against}",
            "",
            "| hard limit | found | at most |",
            "|---|---:|---:|",
            *(f"| {name} | {found} | {at_most} |" for name, found, at_most in limit_rows(promotion)),
            *_slice_lines(promotion),
            "",
        ]
    )


def limit_rows(promotion: Promotion) -> list[tuple[str, str, str]]:
    """Each hard limit: its name, what was found, and the most that passes."""
    return [
        (
            _TITLES.get(name, name) + (f" ({limit.where})" if limit.where else ""),
            f"{limit.value:.3g}" + ("" if limit.holds else " (missed)"),
            f"{limit.at_most:g}",
        )
        for name, limit in promotion.limits.items()
    ]


def _slice_lines(promotion: Promotion) -> list[str]:
    if not promotion.slices:
        return []
    return [
        "",
        "| amount | frauds | recall | recall of the reigning champion |",
        "|---|---:|---:|---:|",
        *(
            f"| {band} | {part.frauds:,} | {part.recall:.3f} | {part.reigning_recall:.3f} |"
            for band, part in promotion.slices.items()
        ),
    ]

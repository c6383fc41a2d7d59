"""The model card: what a reviewer reads before a model decides about customers."""

from __future__ import annotations

from collections.abc import Mapping

from fraud_kedro.champion.bundle import BundleMetadata, DataRecord, Metric
from fraud_kedro.pipelines.export.parity import ParityReport

_TITLES = {
    "average_precision": "Average precision",
    "roc_auc": "AUC-ROC",
    "precision": "Precision at `flag`",
    "recall": "Recall at `flag`",
    "f1": "F1 at `flag`",
    "recall_at_1_percent_fpr": "Recall at 1 % false positives",
    "recall_at_0.1_percent_fpr": "Recall at 0.1 % false positives",
    "brier_score": "Brier score",
    "log_loss": "Log loss",
    "expected_calibration_error": "Expected calibration error",
}

_REFIT = {
    "train": "the training part",
    "train_validation": "the training and validation parts",
    "all": "every row, after the same recipe was judged on test rows it had not seen",
}


def model_card(metadata: BundleMetadata, parity: ParityReport) -> str:
    """Write the card as Markdown."""
    data, thresholds = metadata.data, metadata.thresholds
    return "\n".join(
        [
            f"# {metadata.model_name}: {metadata.algorithm}",
            "",
            f"Made {metadata.created:%Y-%m-%d %H:%M} UTC from **{data.source.kind}** data.",
            "",
            "## Intended use",
            "",
            "Scores single card transactions in real time: a calibrated probability of fraud and one of "
            "the decisions approve, review, decline. It supports a fraud team's work and is no evidence "
            "against a customer by itself.",
            *(
                [
                    "",
                    "**Trained on simulated transactions: for trying out and testing, not for decisions "
                    "about real ones.**",
                ]
                if data.source.kind == "simulated"
                else []
            ),
            "",
            "## Data",
            "",
            *_data_lines(data),
            "",
            f"Fitted on {_REFIT[data.refit or 'train']}. "
            "Calibrated on validation rows that the fit had not seen.",
            "",
            "## Figures on test rows",
            "",
            *_metric_lines(metadata.metrics),
            "",
            "Weighted where the table has weights. Intervals: 95 %, stratified bootstrap.",
            "",
            "## Decisions",
            "",
            f"Policy `{thresholds.policy}`: review from {thresholds.flag:.6g}, decline from "
            f"{thresholds.decline:.6g}. On held-out rows {metadata.flag_rate:.3%} of transactions "
            "are flagged.",
            "",
            "## Export",
            "",
            "The ONNX graph was compared with the native model on "
            + ", ".join(f"{rows.rows:,} {name} rows" for name, rows in parity.row_sets.items())
            + f": largest difference in probability {parity.max_difference:.2g}, "
            "every decision the same.",
            "",
            "## Limits",
            "",
            f"- {data.frauds:,} frauds among {data.rows:,} rows: see the intervals before comparing models.",
            f"- Learned from transactions between {data.time_from:,.0f} and {data.time_to:,.0f} seconds of "
            "the table's clock; fraud changes, so watch drift and retrain.",
            "- Missing values are refused, not imputed.",
            "",
            "## Reproduce",
            "",
            f"Data fingerprint `{data.fingerprint}`, seed {metadata.seed}, commit "
            f"`{metadata.git_revision or 'unknown'}`, parameters:",
            "",
            "| parameter | value |",
            "|---|---|",
            *(f"| `{name}` | {_shown(value)} |" for name, value in sorted(metadata.parameters.items())),
            "",
            "Versions: " + ", ".join(f"{name} {number}" for name, number in metadata.versions.items()) + ".",
            "",
        ]
    )


def _data_lines(data: DataRecord) -> list[str]:
    return [
        f"Source `{data.source.location}`, split {data.split}, "
        f"{data.duplicates_dropped:,} duplicates dropped.",
        "",
        "| part | rows | frauds | from (s) | to (s) |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {part.rows:,} | {part.frauds:,} | {part.time_from:,.0f} | {part.time_to:,.0f} |"
            for name, part in data.parts.items()
        ),
    ]


def _metric_lines(metrics: Mapping[str, Metric]) -> list[str]:
    return [
        "| figure | value | interval |",
        "|---|---:|---|",
        *(
            f"| {_TITLES.get(name, name)} | {metric.value:.4g} | "
            + (f"{metric.low:.4g} to {metric.high:.4g} |" if metric.low is not None else " |")
            for name, metric in metrics.items()
        ),
    ]


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)

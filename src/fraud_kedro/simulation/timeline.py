"""What a rehearsal has seen: its steps and events, recall before, during and after, and their picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Step:
    """What was answered in one step."""

    number: int
    begun: float
    transactions: int
    frauds: int
    caught: int
    model_version: str

    @property
    def recall(self) -> float:
        """Share of the frauds that were flagged."""
        return self.caught / self.frauds


@dataclass
class Timeline:
    """What happened, by seconds from the first transaction."""

    steps: list[Step] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)

    def mean_recall(self, since: float, until: float) -> float | None:
        """Share of the frauds of ``[since, until)`` that were flagged; None where there are none."""
        steps = [step for step in self.steps if since <= step.begun < until]
        frauds = sum(step.frauds for step in steps)
        return sum(step.caught for step in steps) / frauds if frauds else None


def draw(timeline: Timeline, file: Path) -> None:
    """Draw recall over time, by the version that answered, with what happened, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    versions = list(dict.fromkeys(step.model_version for step in timeline.steps))
    for number, version in enumerate(versions):
        steps = [step for step in timeline.steps if step.model_version == version]
        axes.plot(
            [step.begun for step in steps],
            [step.recall for step in steps],
            "o-",
            color=f"C{number}",
            label=version,
        )
    for seconds, name in timeline.events:
        axes.axvline(seconds, color="#9a9a9a", linestyle="--")
        axes.annotate(name, (seconds, 1.03), rotation=20, fontsize="small")
    axes.set(xlabel="seconds", ylabel="recall of a step's frauds", ylim=(0, 1.15))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize="small")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def summary(timeline: Timeline) -> Mapping[str, float | None]:
    """Recall before the new pattern, with it, and with the new champion."""
    at = {name: seconds for seconds, name in timeline.events}
    end = float("inf")
    return {
        "before": timeline.mean_recall(0.0, at["new pattern"]),
        "drifted": timeline.mean_recall(at["new pattern"], at["swap"]),
        "regained": timeline.mean_recall(at["swap"], end),
    }

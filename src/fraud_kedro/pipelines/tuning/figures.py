"""What a study looked like, as Plotly figures."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import plotly.graph_objects as go  # type: ignore[import-untyped]
from optuna import visualization
from optuna.trial import FrozenTrial, TrialState

_IMPORTANCE_NEEDS = 2


def history(study: optuna.Study) -> go.Figure:
    """Value of each trial, and the best so far."""
    return _figure(study, visualization.plot_optimization_history, "History of {}", least=1)


def importance(study: optuna.Study) -> go.Figure:
    """How far each parameter explains whether a trial was among the best, by PED-ANOVA."""
    return _figure(study, visualization.plot_param_importances, "Importance for {}", least=_IMPORTANCE_NEEDS)


def slices(study: optuna.Study) -> go.Figure:
    """Value of each trial over each parameter."""
    return _figure(study, visualization.plot_slice, "Slices of {}", least=1)


def parallel_coordinates(study: optuna.Study) -> go.Figure:
    """Each trial as a line through its parameters."""
    return _figure(study, visualization.plot_parallel_coordinate, "Parallel coordinates of {}", least=1)


def _figure(
    study: optuna.Study, plot: Callable[[optuna.Study], go.Figure], title: str, *, least: int
) -> go.Figure:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    title = title.format(study.study_name)
    if len(complete) < least:
        return _nothing(title, f"{_counted(complete)} of {len(study.trials)}; this plot needs {least}")
    if least == _IMPORTANCE_NEEDS and len({trial.value for trial in complete}) == 1:
        return _nothing(title, f"{_counted(complete)}, all of the same value: nothing is more important")
    figure = plot(study)
    figure.update_layout(title=title)
    return figure


def _counted(trials: list[FrozenTrial]) -> str:
    return f"{len(trials)} complete trial{'' if len(trials) == 1 else 's'}"


def _nothing(title: str, reason: str) -> go.Figure:
    """An empty figure that says why."""
    figure = go.Figure(layout={"title": title, "xaxis": {"visible": False}, "yaxis": {"visible": False}})
    figure.add_annotation(text=reason, showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5)
    return figure

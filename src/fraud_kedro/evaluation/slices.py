"""Figures of parts of the rows: by amount and by hour of the day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from fraud_kedro.champion.bundle import Metric
from fraud_kedro.evaluation.bootstrap import draws, interval
from fraud_kedro.evaluation.measures import Draws, Measure, Measured, decisions, measure, ranking
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.evaluation.thresholds import Cuts
from fraud_kedro.options import Options
from fraud_kedro.schema import SECONDS_PER_DAY

# Figures that say something of a part with few frauds.
SLICE_FIGURES = ("average_precision", "recall", "precision", "false_positive_rate")
HOURS = 4


def _rising(limits: tuple[float, ...]) -> tuple[float, ...]:
    if any(low >= high for low, high in pairwise(limits)):
        raise ValueError("amount_bands should rise from one limit to the next")
    return limits


AmountBands = Annotated[tuple[float, ...], AfterValidator(_rising)]


def by_amount(
    amounts: NDArray[np.float64], limits: Sequence[float]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each band of amounts: its name, and which rows are in it.

    Parameters
    ----------
    amounts : ndarray of shape (n_transactions,)
    limits : sequence of float
        Between the bands, rising; a limit belongs to the band above it.
    """
    number = np.searchsorted(limits, amounts, side="right")
    names = [f"{low:g} to {high:g}" for low, high in pairwise(limits)]
    names = [f"below {limits[0]:g}", *names, f"{limits[-1]:g} and more"] if limits else ["all"]
    for index, name in enumerate(names):
        yield name, number == index


class Slice(Options):
    """One part of the rows.

    Attributes
    ----------
    by : {"amount", "hour"}
    band : str
        Which part, for people.
    rows, frauds : int
    transactions, weighted_frauds : float
        What they stand for.
    figures : dict of str to Metric
        Without those that the part does not define, such as recall without a fraud.
        An interval is missing where too many draws have no fraud in the part.
    """

    by: str
    band: str
    rows: int
    frauds: int
    transactions: float
    weighted_frauds: float
    figures: dict[str, Metric] = Field(default_factory=dict)


def slices(
    rows: ScoredRows, cuts: Cuts, amount_bands: Sequence[float], *, repetitions: int, seed: int
) -> tuple[Slice, ...]:
    """Judge the rows by amount band and by hour, on the resamples of the whole.

    Parameters
    ----------
    rows : ScoredRows
        With amounts and seconds.
    cuts : Cuts
    amount_bands : sequence of float
        The limits between bands, in the table's currency, rising.
    repetitions, seed : int
        Of the bootstrap.

    Returns
    -------
    tuple of Slice
        Bands without rows are left out.
    """
    parts = {key: part for key, part in _parts(rows, amount_bands) if len(part)}
    taken = {key: rows.take(part) for key, part in parts.items()}
    measures = {key: (ranking(part), decisions(part, cuts)) for key, part in taken.items()}
    drawn = draws(
        rows,
        {key: _of_part(part, measures[key]) for key, part in parts.items()},
        repetitions=repetitions,
        seed=seed,
    )
    return tuple(
        Slice(
            by=by,
            band=band,
            rows=len(part.labels),
            frauds=int(part.labels.sum()),
            transactions=float(part.weights.sum()),
            weighted_frauds=float(part.weights[part.labels == 1].sum()),
            figures=_metrics(measure(part, measures[by, band]), drawn[by, band]),
        )
        for (by, band), part in taken.items()
    )


def _parts(
    rows: ScoredRows, amount_bands: Sequence[float]
) -> Iterator[tuple[tuple[str, str], NDArray[np.intp]]]:
    if rows.amounts is not None:
        for name, inside in by_amount(rows.amounts, amount_bands):
            yield ("amount", name), np.flatnonzero(inside)
    if rows.seconds is not None:
        hour = (rows.seconds % SECONDS_PER_DAY / 3600).astype(int)
        for first in range(0, 24, HOURS):
            yield (
                ("hour", f"{first:02} to {first + HOURS:02} h"),
                np.flatnonzero(hour // HOURS == first // HOURS),
            )


def _of_part(part: NDArray[np.intp], measures: Sequence[Measure]) -> Measure:
    """Measures that were made for a part, called with weights of the whole."""

    def measured(weights: Draws) -> Measured:
        own = weights[part]
        return {name: values for each in measures for name, values in each(own).items()}

    return measured


def _metrics(values: Mapping[str, float], drawn: Mapping[str, NDArray[np.float64]]) -> dict[str, Metric]:
    found = {}
    for name in SLICE_FIGURES:
        if name in values:
            low, high = interval(drawn[name]) or (None, None)
            found[name] = Metric(value=values[name], low=low, high=high)
    return found

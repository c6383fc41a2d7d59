"""Parameters and results of training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from fraud_kedro.champion.bundle import Metric, Thresholds
from fraud_kedro.evaluation.calibration_choice import AUTO
from fraud_kedro.evaluation.calibration_fit import CALIBRATION_METHODS
from fraud_kedro.evaluation.slices import Slice
from fraud_kedro.evaluation.thresholds import Costs, ThresholdPolicy
from fraud_kedro.options import Options


class ExplanationOptions(Options):
    """How many test rows are explained; half of them frauds where there are so many.

    Attributes
    ----------
    shap_rows : int
        With contributions of each feature.
    permutation_rows, permutation_repeats : int
        On which features are drawn anew, and how often.
    """

    shap_rows: int = Field(default=400, ge=1)
    permutation_rows: int = Field(default=2000, ge=2)
    permutation_repeats: int = Field(default=2, ge=1)


class TrainingOptions(Options):
    """How a candidate is fitted and judged.

    Attributes
    ----------
    refit : {"train", "train_validation", "all"}
        The rows of the final fit. Whatever it is, the figures on test rows come
        from a fit without them.
    calibration : str
        A method that `fraud_kedro.evaluation.calibration_fit` knows, or ``auto``.
    thresholds : ThresholdPolicy
    bootstrap_repetitions : int
        For the 95 % intervals on test rows.
    alerts_per_day : int
        Of the figure "precision at k per day".
    amount_bands : tuple of float
        Limits between the amounts whose figures are shown apart, in the table's currency.
    explanation : ExplanationOptions
    n_jobs : int
        Threads of one fit.
    """

    refit: Literal["train", "train_validation", "all"] = "train_validation"
    calibration: str = "auto"
    thresholds: ThresholdPolicy
    bootstrap_repetitions: int = Field(default=200, ge=10)
    alerts_per_day: int = Field(default=100, ge=1)
    amount_bands: tuple[float, ...] = (10.0, 50.0, 200.0, 1000.0)
    explanation: ExplanationOptions = ExplanationOptions()
    n_jobs: int = Field(default=2, ge=1)

    @field_validator("calibration")
    @classmethod
    def _is_known(cls, value: str) -> str:
        known = (AUTO, *CALIBRATION_METHODS)
        if value not in known:
            raise ValueError(f"calibration {value!r} is unknown. It should be one of: {', '.join(known)}")
        return value

    @property
    def costs(self) -> Costs:
        """What decisions cost; every threshold policy has them."""
        policy = self.thresholds.root
        return Costs(review_cost=policy.review_cost, false_decline_cost=policy.false_decline_cost)


class JudgedRows(Options):
    """The rows a candidate is judged on.

    Attributes
    ----------
    transactions, weighted_frauds : float
        What they stand for: the sums of their weights.
    days : float
        Whose transactions they stand for.
    weighted : bool
        Whether the table has weights.
    """

    rows: int
    frauds: int
    transactions: float
    weighted_frauds: float
    days: float
    weighted: bool


class Evaluation(Options):
    """One candidate's figures.

    Attributes
    ----------
    thresholds : Thresholds
        Chosen on validation rows.
    validation, test : dict of str to Metric
        The validation figures are of a fit on the training part alone, the test
        figures of the recipe fitted without the test part, with intervals.
    calibration : str
        The method.
    refit : {"train", "train_validation", "all"}
        The rows of the recipe's final fit.
    costs : Costs
        What the figures of cost are made of.
    rows : JudgedRows or None
        The test rows.
    decisions : dict of str to dict of str to float
        Weighted numbers of legitimate transactions and frauds among the test rows
        that are approved, reviewed and declined.
    left_out : dict of str to str
        Figures that these test rows do not define, and what for.
    slices : tuple of Slice
        Parts of the test rows.
    """

    algorithm: str
    parameters: dict[str, Any]
    thresholds: Thresholds
    validation: dict[str, Metric]
    test: dict[str, Metric]
    calibration: str = ""
    refit: str = "train"
    costs: Costs = Costs()
    rows: JudgedRows | None = None
    decisions: dict[str, dict[str, float]] = Field(default_factory=dict)
    left_out: dict[str, str] = Field(default_factory=dict)
    slices: tuple[Slice, ...] = ()


NOISE = "noise"


def figure_of(objective: str) -> str:
    """The figure that an objective maximises: of the cost, what is saved."""
    return "savings" if objective == "expected_cost" else objective


class Difference(Options):
    """A figure of two candidates on the same resamples of the test rows.

    Attributes
    ----------
    value, low, high : float
        First minus second, with its paired 95 % interval; without one where too many
        resamples do not define the figure.
    verdict : str
        ``noise`` where the interval holds 0 or there is none, else the name of the
        better one.
    """

    figure: str
    first: str
    second: str
    value: float
    low: float | None
    high: float | None
    verdict: str

    def turned(self) -> Difference:
        """Second minus first."""
        return Difference(
            figure=self.figure,
            first=self.second,
            second=self.first,
            value=-self.value,
            low=None if self.high is None else -self.high,
            high=None if self.low is None else -self.low,
            verdict=self.verdict,
        )


class Standing(Options):
    """A candidate on validation rows.

    Attributes
    ----------
    value : float
        The objective.
    behind : float
        How far it is behind the best.
    standard_error : float
        Of `behind`, from paired resamples.
    """

    algorithm: str
    value: float
    behind: float
    standard_error: float | None


class Choice(Options):
    """Which candidate is to be the champion, and why.

    Attributes
    ----------
    standings : tuple of Standing
        The best first.
    """

    objective: str
    champion: str
    reason: str
    standings: tuple[Standing, ...]


class Comparison(Options):
    """The candidates side by side, the champion-elect first.

    `differences` are on test rows, and decide nothing.
    """

    objective: str
    champion: str
    reason: str = ""
    candidates: tuple[Evaluation, ...]
    differences: tuple[Difference, ...] = ()

    @property
    def figure(self) -> str:
        """The figure that the candidates were ranked by."""
        return figure_of(self.objective)

    def verdict(self, name: str) -> str:
        """Say in words how one candidate compares on test rows, and what of it is noise.

        Returns
        -------
        str
            A sentence, empty where nothing was compared.
        """
        groups: dict[str, list[str]] = {"better": [], "worse": [], "not told apart from it": []}
        for each in self.between(name, self.figure):
            kind = {NOISE: "not told apart from it", name: "worse"}.get(each.verdict, "better")
            groups[kind].append(each.second)
        told = "; ".join(
            f"{' and '.join(', '.join(names).rsplit(', ', 1))} "
            f"{'is' if len(names) == 1 else 'are'} {kind}{' (noise)' if kind.startswith('not') else ''}"
            for kind, names in groups.items()
            if names
        )
        return f"Against {name}, by {self.figure} on test rows: {told}." if told else ""

    def between(self, name: str, figure: str) -> tuple[Difference, ...]:
        """The differences of one candidate to the others in one figure, the candidate first."""
        return tuple(
            each if each.first == name else each.turned()
            for each in self.differences
            if each.figure == figure and name in (each.first, each.second)
        )

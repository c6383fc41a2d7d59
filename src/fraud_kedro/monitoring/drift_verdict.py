"""What is told of drift: the verdict, and each test behind it."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

Verdict = Literal["ok", "warn", "drift", "insufficient_data"]
Direction = Literal["higher", "lower", "other shape", "same"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class WindowRecord(_Record):
    """Which rows were looked at.

    Attributes
    ----------
    since, until : datetime
        Of arrival.
    rows : int
        Answered transactions in the log.
    compared : int
        Those whose features fit the champion's schema.
    without_features, other_schema : int
        Those left out, since retention has taken their features or they have others.
    sampled : int
        Rows that features were compared on; counts are over all.
    scored_by_champion : int
        Rows whose score is the champion's own.
    hours_covered : float
    model_versions : dict
        Answered transactions by the model that answered.
    """

    since: AwareDatetime
    until: AwareDatetime
    rows: int
    compared: int
    without_features: int
    other_schema: int
    sampled: int
    scored_by_champion: int
    hours_covered: float
    model_versions: dict[str, int]


class ColumnDrift(_Record):
    """One feature.

    Attributes
    ----------
    column : str
    importance : float
        Its part in the movement of the score.
    test : str
    statistic : float
        Largest difference between the distribution functions.
    p_value, adjusted_p_value : float
        The second for all columns together (Holm); compared with `threshold`.
    threshold : float
        The family's budget of false alarms.
    distance, distance_threshold : float
        Normed Wasserstein distance.
    direction : {"higher", "lower", "other shape", "same"}
    zeros_before, zeros_now : float
        Shares of zeros.
    zeros_p_value : float
        Adjusted for all columns.
    is_drifted : bool
    """

    column: str
    importance: float
    test: str = "ks"
    statistic: float
    p_value: float
    adjusted_p_value: float
    threshold: float
    distance: float
    distance_threshold: float
    direction: Direction
    zeros_before: float
    zeros_now: float
    zeros_p_value: float
    is_drifted: bool


class Alarm(_Record):
    """One thing that is watched over the whole window.

    Attributes
    ----------
    test : str
    before, now : float or None
        What is compared, where it is one number.
    p_value, threshold : float
        Adjusted for the tests of its family, and the family's budget.
    effect, effect_threshold : float
        How large the change is.
    is_raised : bool
        Significant and large.
    """

    test: str
    before: float | None = None
    now: float | None = None
    p_value: float
    threshold: float
    effect: float
    effect_threshold: float
    is_raised: bool


class DriftVerdict(_Record):
    """Whether what comes in still looks like what the champion was made from.

    Attributes
    ----------
    id : str
        Of the run; its files have it in their names.
    created : datetime
    verdict : {"ok", "warn", "drift", "insufficient_data"}
    drift_detected : bool
        Whether the verdict is `drift`.
    reason : str
        One sentence.
    model_version : str
        The champion whose reference it is.
    reference_rows : int
    window : WindowRecord
    drifted_columns : int
    drifted_share, drifted_importance : float
        Share of the columns that drifted, and their share of the importance.
    alarms : dict of Alarm
        ``flagged``, ``probable_frauds``, ``scores``, ``hours``; what could not be
        judged is absent and named in `notes`.
    columns : tuple of ColumnDrift
        The most important first.
    false_alarm_budget : float
        The families' budgets together.
    notes : tuple of str
    """

    id: str
    created: AwareDatetime
    verdict: Verdict
    drift_detected: bool
    reason: str
    model_version: str
    reference_rows: int
    window: WindowRecord
    drifted_columns: int = 0
    drifted_share: float = 0.0
    drifted_importance: float = 0.0
    alarms: dict[str, Alarm] = {}
    columns: tuple[ColumnDrift, ...] = ()
    false_alarm_budget: float
    notes: tuple[str, ...] = ()

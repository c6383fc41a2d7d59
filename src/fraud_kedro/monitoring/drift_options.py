"""What drift is judged by."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fraud_kedro.options import Options

Share = Annotated[float, Field(gt=0, lt=1)]
Size = Annotated[float, Field(gt=0)]


class FalseAlarms(Options):
    """How often each family of tests may find drift in a window that has none.

    The verdict's own rate is at most their sum. Within a family of several tests
    the budget is shared by Holm's method.

    Attributes
    ----------
    columns : float
        The distribution of each feature, Kolmogorov-Smirnov.
    zeros : float
        The share of zeros in each feature, exact binomial.
    hours : float
        The mix of hours of the day, chi-square.
    scores : float
        The distribution of scores over the bundle's histogram, chi-square.
    alerts : float
        The share of flagged transactions, and fewer probable frauds, exact binomial.
    more_frauds : float
        More probable frauds, one-sided binomial. It has most of the budget: few
        frauds leave little to tell by, and more of them cost most.
    """

    columns: Share = 0.005
    zeros: Share = 0.0025
    hours: Share = 0.0025
    scores: Share = 0.0025
    alerts: Share = 0.005
    more_frauds: Share = 0.03


class Effects(Options):
    """How large a change must be beside being significant: large windows find every small one.

    Attributes
    ----------
    wasserstein : float
        Distance between a feature's distributions in the reference's standard
        deviations. Evidently's own default.
    ks : float
        Or this largest difference between their distribution functions, for what
        moves within a column of long tails.
    zeros : float
        Difference of the shares of zeros.
    hours : float
        Share of the transactions that happen at another hour (total variation).
    psi : float
        Population stability index of the scores. A model that was fitted anew on
        more rows than the reference's scores lie up to 0.15 from them.
    alerts : float
        Factor by which flagged transactions or probable frauds are more, or fewer.
    """

    wasserstein: Size = 0.1
    ks: Share = 0.1
    zeros: Share = 0.01
    hours: Share = 0.1
    psi: Size = 0.3
    alerts: float = Field(default=1.3, gt=1)


class DriftOptions(Options):
    """How the prediction log is compared with the champion's reference.

    Attributes
    ----------
    days : float
        The window, by arrival, up to now.
    least_rows : int
        Fewer rows in window or reference are not judged.
    sample_rows : int
        At most so many rows of the window are compared column by column; what is
        counted is counted over all.
    report_rows : int
        At most so many rows of window and reference are drawn in Evidently's page.
    labelled_rows : int
        At most so many transactions with settled labels are.
    drifted_importance : float
        Drifted columns are an alarm if together they move the score as much as
        this share of all columns' importance; a warning otherwise.
    drifted_share : float
        Or if they are this share of the columns.
    left_out_share : float
        A warning if more of the window's rows than this cannot be compared.
    keep_reports : int
        So many dated reports stay; the history keeps a line of every run.
    false_alarms : FalseAlarms
    effects : Effects
    """

    days: float = Field(default=30.0, gt=0, le=36_500)
    least_rows: int = Field(default=500, ge=100)
    sample_rows: int = Field(default=50_000, ge=1000)
    report_rows: int = Field(default=10_000, ge=100)
    labelled_rows: int = Field(default=100_000, ge=100)
    drifted_importance: Share = 0.05
    drifted_share: float = Field(default=0.5, gt=0, le=1)
    left_out_share: Share = 0.1
    keep_reports: int = Field(default=20, ge=1)
    false_alarms: FalseAlarms = FalseAlarms()
    effects: Effects = Effects()

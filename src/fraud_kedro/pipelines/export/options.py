"""Parameters and results of export."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fraud_kedro.champion.bundle import Metric
from fraud_kedro.evaluation.slices import AmountBands
from fraud_kedro.options import Options


class PromotionOptions(Options):
    """When a candidate becomes the champion.

    Attributes
    ----------
    mode : {"auto", "manual"}
        In ``manual`` it waits as challenger for ``kedro champion approve``.
    margin : float
        How far below zero the lower end of the paired difference's interval may lie.
    max_calibration_error : float
        Hard limit on the expected calibration error on test rows.
    max_latency_ms : float
        Hard limit on the median time of one row in onnxruntime, on one thread.
    max_false_positive_rise : float
        Hard limit on how much larger than the reigning champion's its share of
        flagged legitimate transactions may be, each at its own threshold.
    max_slice_recall_drop : float
        Hard limit on how much smaller than the reigning champion's its recall may
        be in any band of amounts, each at its own threshold.
    amount_bands : tuple of float
        The limits between bands, in the table's currency, rising.
    slice_frauds : int
        A band with fewer frauds in the test part says too little, and is not judged.
    repetitions : int
        Of the paired bootstrap.
    force : bool
        Promote whatever the gate says; needs `why`.
    why : str
        Recorded with the alias.
    """

    mode: Literal["auto", "manual"] = "auto"
    margin: float = Field(default=0.02, ge=0)
    max_calibration_error: float = Field(default=0.01, gt=0)
    max_latency_ms: float = Field(default=5.0, gt=0)
    max_false_positive_rise: float = Field(default=0.005, ge=0)
    max_slice_recall_drop: float = Field(default=0.2, ge=0, le=1)
    amount_bands: AmountBands = (10.0, 100.0, 500.0)
    slice_frauds: int = Field(default=20, ge=1)
    repetitions: int = Field(default=200, ge=10)
    force: bool = False
    why: str = ""

    @model_validator(mode="after")
    def _force_needs_a_reason(self) -> PromotionOptions:
        if self.force and not self.why.strip():
            raise ValueError("promotion.force needs a reason in promotion.why, which is recorded")
        return self


class ExportOptions(Options):
    """How candidates are exported.

    Attributes
    ----------
    parity_tolerance : float
        Largest difference in probability between the graph and the native model.
    drawn_rows : int
        Rows that parity is checked on beside test and edge rows: simulated ones
        where the simulator draws these features, else each column drawn by itself
        from the test part.
    reference_rows : int
        At most so many rows in the bundle's reference for drift.
    background_rows : int
        So many transactions are what reasons compare with; 0 takes one row of
        medians in their place, so that no transaction is among them.
    promotion : PromotionOptions
    """

    parity_tolerance: float = Field(default=1e-5, gt=0)
    drawn_rows: int = Field(default=100_000, ge=1)
    reference_rows: int = Field(default=20_000, ge=100)
    background_rows: int = Field(default=100, ge=0, le=1000)
    promotion: PromotionOptions = PromotionOptions()


class Registrations(Options):
    """The registry's version of each exported candidate."""

    run_id: str
    versions: dict[str, int]


class Limit(Options):
    """A hard limit of the gate: what was found, the most that passes, and in which part of the rows."""

    value: float
    at_most: float
    where: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value passes; NaN does not."""
        return self.value <= self.at_most


class SliceRecall(Options):
    """Recall of both sides on one band of amounts, each from its own flag threshold on."""

    frauds: int
    recall: float
    reigning_recall: float


class Promotion(Options):
    """What the gate decided about the best candidate, and why.

    Attributes
    ----------
    difference : Metric or None
        Candidate minus reigning champion on the same test rows, with its paired
        interval; None where the two were not compared.
    limits : dict of str to Limit
        The hard limits that could be judged.
    slices : dict of str to SliceRecall
        By band of amounts; empty where the two were not compared.
    false_positive_rate, reigning_false_positive_rate : float or None
        Weighted share of the legitimate test rows that each side flags.
    """

    outcome: Literal["promoted", "challenger", "rejected"]
    forced: bool = False
    algorithm: str
    version: int
    reigning_version: int | None
    reason: str
    difference: Metric | None = None
    limits: dict[str, Limit] = Field(default_factory=dict)
    slices: dict[str, SliceRecall] = Field(default_factory=dict)
    false_positive_rate: float | None = None
    reigning_false_positive_rate: float | None = None

"""How the rows of a comparison differ from EW and from tuned EW, with intervals and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.reporting.comparison import Variant


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; the interval is NaN where there are too few seeds for one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Contrast:
    """A row against the rows of EW, over the seeds that both have.

    score: the overall test score.
    over_ew, over_tuned: differences of overall test scores; None without that row, or for the row itself.
    improvement: the probability that this row is better than EW; None as before.
    p: of the test against EW, adjusted for the number of rows; None as before.
    verdict: in words; empty where nothing can be said.
    best: whether the row is the best, or not separable from it.
    lacking: why numbers are missing.
    """

    seeds: tuple[int, ...]
    score: Estimate | None
    over_ew: Estimate | None = None
    over_tuned: Estimate | None = None
    improvement: Estimate | None = None
    p: float | None = None
    verdict: str = ""
    best: bool = False
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class Twin:
    """A row against its frozen twin, over the seeds that both have."""

    variant: Variant
    twin: Variant
    seeds: tuple[int, ...]
    difference: Estimate


@dataclass(frozen=True)
class Contrasts:
    """The contrasts of a comparison.

    rows: by variant.
    twins: of each pair that has runs. unpaired: sentences on twins that can't be compared.
    resampled: what the intervals are over: "seeds × items" or "seeds".
    remarks: sentences on what the intervals leave out.
    power: a sentence with the difference that these seeds can detect; empty if nothing can be said.
    """

    rows: Mapping[str, Contrast]
    twins: tuple[Twin, ...]
    unpaired: tuple[str, ...]
    resampled: str
    remarks: tuple[str, ...]
    power: str

"""Verdicts on the rows of a problem: against EW, against tuned EW, and against the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bench.reporting.inference.describe import LEVEL, Array
from bench.reporting.inference.significance import holm, luck_p, sign_flip_p

Word = Literal[
    "better than tuned EW", "better than EW", "not separable", "worse", "too few seeds", "runs lost", "reference",
    "no reference",
]  # fmt: skip


@dataclass(frozen=True)
class Against:
    """A row against a reference, over the seeds that both have.

    difference: mean of row - reference; NaN without common seeds.
    p: two-sided; NaN with too few seeds.
    adjusted: p by Holm, over the rows that have enough seeds.
    """

    seeds: int
    difference: float
    p: float
    adjusted: float

    @property
    def enough(self) -> bool:
        """Whether there are enough seeds for any difference to be significant."""
        return bool(np.isfinite(self.p))

    def above(self, level: float) -> bool:
        """Whether the row is significantly better."""
        return self.enough and self.adjusted <= level and self.difference > 0

    def below(self, level: float) -> bool:
        """Whether the row is significantly worse."""
        return self.enough and self.adjusted <= level and self.difference < 0


@dataclass(frozen=True)
class Verdict:
    """What can be said of a row. ew, tuned: None without such a row, and for that row itself. lost: runs (-inf)."""

    word: Word
    ew: Against | None
    tuned: Against | None
    lost: int = 0

    def __str__(self) -> str:
        if self.word == "runs lost":
            return f"{self.word} ({self.lost})"
        if self.word == "too few seeds":
            return f"{self.word} ({min(one.seeds for one in (self.ew, self.tuned) if one)})"
        return "" if self.word in ("reference", "no reference") else self.word


def verdicts(
    scores: Array, ew: int | None, tuned: int | None, level: float = LEVEL, luck: Array | None = None
) -> tuple[Verdict, ...]:
    """The verdict on each row.

    better than tuned EW: significantly above tuned EW, and above EW where there is such a row.
    better than EW: significantly above EW only.
    worse: significantly below EW, or below tuned EW and not above EW.
    not separable: anything else. It doesn't say that the rows are equal.
    too few seeds: with these seeds and that many rows, no difference can be significant.
    runs lost: some runs diverged. The others are its luckier seeds: they are not tested, and not counted by Holm.

    Significant: Holm-adjusted p, two-sided, one family for each reference. p is that of the sign-flip test, or that of
    `luck_p` if it is larger.

    scores: (rows, seeds), higher is better; NaN for a run that is missing, -inf for one that diverged. Without the run
        of a reference, other rows are compared over their other seeds.
    luck: (rows,) standard deviation of the score over repeats of the tuning (`best_of_repeats`), 0 for rows that were
        not tuned. None: verdicts are on these settings, not on the methods that were tuned.
    ew, tuned: indices of the rows of EW with default settings and of tuned EW; None if there is no such row.

    Raises:
        ValueError: a score is infinite, but not -inf, or the index of a reference is not that of a row.
    """
    if np.isposinf(scores).any():
        raise ValueError("scores: expected finite numbers, NaN for a missing run, found inf; leave out this row.")
    if any(place is not None and not 0 <= place < len(scores) for place in (ew, tuned)) or (
        ew is not None and ew == tuned
    ):
        raise ValueError(f"references: expected two of {len(scores)} rows or None, found {ew} and {tuned}")
    spread = np.zeros(len(scores)) if luck is None else luck
    over_ew = _against(scores, spread, ew, (ew,), level)
    over_tuned = _against(scores, spread, tuned, (ew, tuned), level)
    found = []
    for row in range(len(scores)):
        one, other, lost = over_ew.get(row), over_tuned.get(row), int(np.isneginf(scores[row]).sum())
        word: Word = "runs lost" if lost and (one or other) else _word(row in (ew, tuned), one, other, level)
        found.append(Verdict(word, one, other, lost))
    return tuple(found)


def _against(
    scores: Array, luck: Array, reference: int | None, left_out: tuple[int | None, ...], level: float
) -> dict[int, Against]:
    if reference is None:
        return {}
    rows = [row for row in range(len(scores)) if row not in left_out]
    known = np.where(np.isfinite(scores), scores, np.nan)
    differences = {row: known[row] - known[reference] for row in rows}
    paired = {row: d[np.isfinite(d)] for row, d in differences.items()}
    counts = np.array([len(d) for d in paired.values()])
    lost = np.isneginf(scores[rows]).any(axis=1)
    # With Holm, a row comes at best after all rows that have more seeds.
    enough = np.array([2.0 ** (1 - n) * np.sum(counts[~lost] <= n) <= level for n in counts], dtype=np.bool_) & ~lost
    p = np.full(len(rows), np.nan)
    for n in np.unique(counts[enough]):  # rows with as many seeds at once
        places = np.flatnonzero(enough & (counts == n))
        same = np.array([paired[rows[place]] for place in places])
        both = np.hypot(luck[[rows[place] for place in places]], luck[reference])
        p[places] = np.maximum(sign_flip_p(same), luck_p(same, both))
    return {
        row: Against(len(d), float(d.mean()) if len(d) else np.nan, float(one), float(adjusted))
        for (row, d), one, adjusted in zip(paired.items(), p, holm(p), strict=True)
    }


def _word(is_reference: bool, ew: Against | None, tuned: Against | None, level: float) -> Word:
    compared = [one for one in (ew, tuned) if one]
    if not compared:
        return "reference" if is_reference else "no reference"
    if not all(one.enough for one in compared):
        return "too few seeds"
    if all(one.above(level) for one in compared):
        return "better than tuned EW" if tuned else "better than EW"
    if ew and ew.above(level):
        return "better than EW"
    return "worse" if any(one.below(level) for one in compared) else "not separable"


def not_separable_from_best(scores: Array, level: float = LEVEL, luck: Array | None = None) -> npt.NDArray[np.bool_]:
    """Whether each row (rows,) may be the best: no other row is significantly better than it.

    A row is tested against every other row, one-sided, with Bonferroni's adjustment for these tests. So the row that is
    truly best loses its mark with probability `level` at most, whichever row looks best: the best is not selected
    first. The row with the highest mean always keeps it.

    scores: (rows, seeds), higher is better. A row with a missing run (NaN) is left out: False.
    luck: as of `verdicts`.

    Raises:
        ValueError: a score is infinite.
    Source: subsets that contain the best: Gupta, "On some multiple decision (selection and ranking) rules" (1965);
    Hsu, "Multiple comparisons" (1996), Chapter 4.
    Deviations: sign-flip tests instead of normal errors with a common variance.
    """
    if np.isinf(scores).any():
        raise ValueError("scores: expected finite numbers, NaN for a missing run, found inf; leave out this row.")
    whole = np.flatnonzero(np.isfinite(scores).all(axis=1))
    best = np.zeros(len(scores), dtype=np.bool_)
    if len(whole) == 0:
        return best
    kept, spread = scores[whole], np.zeros(len(whole)) if luck is None else luck[whole]
    pairs = kept[None, :, :] - kept[:, None, :]  # (row, other, seeds)
    both = np.hypot(spread[None, :], spread[:, None])
    p = np.maximum(sign_flip_p(pairs, one_sided=True), luck_p(pairs, both, one_sided=True))
    np.fill_diagonal(p, 1.0)
    best[whole] = p.min(axis=1) * (len(whole) - 1) > level if len(whole) > 1 else True
    return best

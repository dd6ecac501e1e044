"""How the rows of a comparison differ from EW, from tuned EW and from their twins, with intervals and verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.reporting.comparison import Comparison, Variant
from bench.reporting.inference.bootstrap import seed_interval
from bench.reporting.inference.describe import Array, Estimate
from bench.reporting.inference.improvement import probability_of_improvement
from bench.reporting.inference.significance import holm, sign_flip_p
from bench.reporting.inference.verdicts import Verdict, verdicts
from bench.reporting.item_scores import ItemReader, item_interval
from bench.reporting.labels import seed_list
from bench.reporting.luck import tuning_luck
from bench.reporting.overall import score_matrix, test_score

METHOD = (
    "Brackets: 95 % intervals; those of differences are over {what}. Differences are paired by seed. P(> EW): share of "
    "seeds on which a row is better than EW, ties half. p: two-sided sign-flip test against EW, adjusted for the "
    "number of rows (Holm). Verdict: at the 5 % level, adjusted likewise; 'not separable' doesn't mean equal. Rows "
    "that lost runs, which diverged or have no finite score, get no p and verdict, and lose these seeds in P(> EW)."
)
WITH_LUCK = (
    " p of tuned rows counts the luck of their tuning (docs/statistics.md), which brackets leave out: a row may be not "
    "separable although its bracket is without 0."
)
OVER = {True: "seeds and test items (studentised bootstrap)", False: "seeds (Student)"}


@dataclass(frozen=True)
class Contrast:
    """A row against the rows of EW, over the seeds that both have.

    score: the overall test score.
    over_ew, over_tuned: differences of overall test scores; None without that row, or for the row itself.
    improvement: the probability that this row is better than EW; None as before.
    verdict: in words.
    lacking: why numbers are missing.
    """

    seeds: tuple[int, ...]
    score: Estimate | None
    over_ew: Estimate | None
    over_tuned: Estimate | None
    improvement: Estimate | None
    verdict: Verdict
    lacking: tuple[str, ...]

    @property
    def p(self) -> float | None:
        """Of the test against EW, adjusted for the number of rows; None without one."""
        against = self.verdict.ew
        return against.adjusted if against is not None and against.enough else None


@dataclass(frozen=True)
class Twin:
    """A row against its frozen twin, over the seeds that both have.

    p: adjusted for the number of pairs; NaN if runs are lost.
    """

    variant: Variant
    twin: Variant
    seeds: tuple[int, ...]
    difference: Estimate
    p: float


@dataclass(frozen=True)
class Contrasts:
    """The contrasts of a comparison.

    rows: by label, since tuning may end with the settings of another row.
    twins: of each pair that has runs. unpaired: why others are left out. twinless: labels of rows without a twin.
    method: how intervals, p values and verdicts were made, for a caption.
    remarks: sentences on what is missing.
    """

    rows: Mapping[str, Contrast]
    twins: tuple[Twin, ...]
    unpaired: tuple[str, ...]
    twinless: tuple[str, ...]
    method: str
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Table:
    """Overall test scores (rows, seeds) of a comparison, NaN where there is none. items: reads outcomes per item."""

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    scores: Array
    items: ItemReader

    def row(self, variant: Variant | None) -> int | None:
        return next((i for i, v in enumerate(self.variants) if variant is not None and v.is_row(variant)), None)

    def seeds_of(self, *rows: int) -> tuple[int, ...]:
        """The seeds that all of these rows have."""
        return tuple(
            s for s, column in zip(self.seeds, self.scores[list(rows)].T, strict=True) if np.isfinite(column).all()
        )

    def differences(self, row: int, other: int) -> Array:
        """(n,) of the seeds that both have."""
        found = self.scores[row] - self.scores[other]
        return np.asarray(found[np.isfinite(found)])

    def difference(self, row: int, other: int) -> tuple[Estimate | None, bool]:
        """The mean difference of two rows with its interval, and whether this is over test items, too."""
        found = self.differences(row, other)
        if not len(found):
            return None, False
        seeds = self.seeds_of(row, other)
        over_items = item_interval(self.items, self.variants[row], self.variants[other], seeds, float(found.mean()))
        return (over_items, True) if over_items is not None else (seed_interval(found), False)


def contrasts_of(results: Path, comparison: Comparison) -> Contrasts:
    """The contrasts of a comparison, from its records and the outcomes per test item beside them."""
    variants = comparison.with_baseline
    scores = score_matrix(variants, comparison.seeds)
    table = _Table(variants, comparison.seeds, scores, ItemReader(results, comparison))
    ew, tuned = table.row(comparison.baseline), table.row(comparison.tuned_baseline)
    luck = tuning_luck(results, comparison, variants)
    lost = _lost(comparison, variants)
    said = verdicts(np.where(lost, -np.inf, scores), ew, tuned, luck=luck)
    rows, resampled = {}, set[bool]()
    for place, variant in enumerate(comparison.variants):
        over_ew, of_ew = table.difference(place, ew) if ew not in (None, place) else (None, None)
        over_tuned, of_tuned = table.difference(place, tuned) if tuned not in (None, place) else (None, None)
        resampled |= {one for one, found in ((of_ew, over_ew), (of_tuned, over_tuned)) if one is not None and found}
        own = scores[place][np.isfinite(scores[place])]
        rows[variant.label] = Contrast(
            seeds=table.seeds_of(place),
            score=seed_interval(own) if len(own) else None,
            over_ew=over_ew,
            over_tuned=over_tuned,
            improvement=_improvement(table, lost, place, ew) if ew is not None and over_ew else None,
            verdict=said[place],
            lacking=_lacking(table, place, ew, tuned),
        )
    twins, unpaired = _twins(comparison, table, lost)
    sources = {variant.twin_of for variant in comparison.variants if variant.twin_of}
    twinless = tuple(v.label for v in comparison.variants if not v.twin_of and v.label not in sources)
    over = "; ".join(OVER[one] for one in sorted(resampled, reverse=True)) or OVER[False]
    method = METHOD.format(what=over) + (WITH_LUCK if luck is not None and luck.any() else "")
    return Contrasts(rows, twins, unpaired, twinless, method, _remarks(comparison, luck))


def _lost(comparison: Comparison, variants: Sequence[Variant]) -> npt.NDArray[np.bool_]:
    """Which runs (rows, seeds) diverged, or ended without a finite score: the seeds that are left are the luckier."""
    return np.array([[_is_lost(variant, seed) for seed in comparison.seeds] for variant in variants], dtype=np.bool_)


def _is_lost(variant: Variant, seed: int) -> bool:
    run = variant.runs.get(seed)
    if run is None or run.status == "failed":
        return False
    return run.status == "diverged" or (seed in variant.scored and not math.isfinite(test_score(run)))


def _improvement(table: _Table, lost: npt.NDArray[np.bool_], place: int, ew: int) -> Estimate:
    """P(row > EW) over the seeds that both have; a lost run is not better than one that EW finished."""
    against = int((lost[place] & np.isfinite(table.scores[ew])).sum())
    return probability_of_improvement(np.concatenate([table.differences(place, ew), np.full(against, -1.0)]))


def _lacking(table: _Table, place: int, ew: int | None, tuned: int | None) -> tuple[str, ...]:
    """Why a row has no numbers, or numbers of fewer seeds than others."""
    variant, notes = table.variants[place], []
    own = set(table.seeds_of(place))
    if odd := sorted(set(variant.scored) - own):
        notes.append(f"no finite overall score for {seed_list(odd)}")
    for what, other in (("EW", ew), ("tuned EW", tuned)):
        if other not in (None, place) and (unpaired := sorted(own - set(table.seeds_of(other)))):
            notes.append(f"no {what} run to compare with for {seed_list(unpaired)}")
    return tuple(notes)


def _twins(
    comparison: Comparison, table: _Table, lost: npt.NDArray[np.bool_]
) -> tuple[tuple[Twin, ...], tuple[str, ...]]:
    """Every row that has a frozen twin against it; and why other twins can't be compared."""
    places = {variant.label: place for place, variant in enumerate(comparison.variants)}
    found, unpaired = list[tuple[int, int, Estimate]](), []
    for place, twin in enumerate(comparison.variants):
        if not twin.twin_of:
            continue
        source = places.get(twin.twin_of)
        difference = None if source is None else table.difference(source, place)[0]
        if source is None or difference is None:
            unpaired.append(f"{twin.label} (no finished seed in common with {twin.twin_of})")
        else:
            found.append((source, place, difference))
    p = holm(np.array([_twin_p(table, lost, source, place) for source, place, _ in found]))
    twins = [
        Twin(table.variants[source], table.variants[place], table.seeds_of(source, place), difference, float(one))
        for (source, place, difference), one in zip(found, p, strict=True)
    ]
    return tuple(twins), tuple(unpaired)


def _twin_p(table: _Table, lost: npt.NDArray[np.bool_], source: int, twin: int) -> float:
    """Of the sign-flip test; NaN if one of the two lost a run."""
    return math.nan if lost[[source, twin]].any() else float(sign_flip_p(table.differences(source, twin)))


def _remarks(comparison: Comparison, luck: Array | None) -> tuple[str, ...]:
    remarks = [comparison.absent_rows] if comparison.absent else []
    if comparison.baseline is None:
        remarks.append("There is no row of EW to compare with.")
    if comparison.tuned_baseline is None:
        remarks.append("No row of tuned EW is known.")
    if luck is None and any(variant.trials for variant in comparison.variants):
        remarks.append("No table of trials: verdicts are on these settings, without the luck of tuning.")
    if len(comparison.seeds) < 2:
        remarks.append("One seed: no intervals.")
    return tuple(remarks)

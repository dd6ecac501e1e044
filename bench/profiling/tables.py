"""Tables of python -m bench.speed solvers, flow and data, for the terminal, a Markdown file and a CSV file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pandas import DataFrame

from bench.profiling.flow import WHOLE_STEP
from bench.profiling.harness import Result, Sample
from bench.profiling.solvers import Solution
from bench.records.files import atomic_write_text
from bench.records.speed import OURS
from bench.reporting.render import aligned, markdown
from bench.reporting.tables.table import MISSING, Cell, Column, Group, Head, Row, Table
from methods import WEIGHTINGS
from methods.adapters.bridge import INSTALL

# Formats that show the median, and in brackets the first and third quartile.
_WHOLE, _TWO, _THREE = (f"{{1:{form}}} ({{0:{form}}} – {{2:{form}}})" for form in (",.0f", ".2f", ".3f"))


@dataclass(frozen=True)
class Page:
    """What a benchmark shows: tables, remarks below them, and all measured values for the CSV file."""

    tables: Sequence[Table]
    remarks: Sequence[str]
    values: Sequence[Mapping[str, object]]

    def text(self) -> str:
        """For a terminal."""
        return "\n".join([*(aligned(table) for table in self.tables), *self.remarks])

    def write(self, folder: Path, name: str) -> None:
        """Writes <name>.md and <name>.csv."""
        parts = [*(markdown(table).strip() for table in self.tables), *self.remarks]
        atomic_write_text(folder / f"{name}.md", "\n\n".join(parts) + "\n")
        atomic_write_text(folder / f"{name}.csv", DataFrame(self.values).to_csv(index=False, lineterminator="\n"))


# A column: its value of one round, from the samples of the candidate, of the first candidate and, if there is one, of
# WHOLE_STEP; and the format of the three quartiles of these values.
Shown = tuple[Callable[[Sample, Sample, Sample | None], float | None], str]


@dataclass(frozen=True)
class _Layout:
    """The table of a benchmark.

    candidates: the head of their column.
    columns: what they show, by head.
    """

    caption: str
    candidates: str
    columns: Mapping[str, Shown]


_TIME: Shown = (lambda own, first, step: 1e3 * own.seconds, _TWO)
_RATIO: Shown = (lambda own, first, step: None if own is step else own.seconds / first.seconds, _THREE)
_SHARE: Shown = (lambda own, first, step: None if step is None else 100 * own.seconds / step.seconds, _TWO)
_EVALUATIONS: Shown = (lambda own, first, step: own.evaluations.forward, "{1:.0f}")
_RATE: Shown = (lambda own, first, step: own.rate, _WHOLE)
_FASTER: Shown = (lambda own, first, step: own.rate / first.rate, _TWO)

LAYOUTS: Mapping[str, _Layout] = {
    "step": _Layout(
        "A training step: ResNet-18, four linear heads, images of noise, optimizers included. NORMAL is meant to stay "
        "within 1.25 × EW.",
        "method",
        {"time, ms": _TIME, "× EW": _RATIO, "evaluations": _EVALUATIONS},
    ),
    "tasks": _Layout(
        "The flow by the number of tasks: forward and backward, without encoder and heads; the furthest of m evenly "
        "spread positions is always the same. One trajectory for 40 tasks is meant to stay within 1.3 × that for one, "
        "with as many evaluations.",
        "tasks",
        {"time, ms": _TIME, "× m = 1": _RATIO, "evaluations": _EVALUATIONS},
    ),
    "inputs": _Layout(
        "Four inputs, one per task: forward and backward, without encoder and heads. Solved together, an evaluation "
        "has the vectors of all four inputs. The training step is NORMAL's, under EW, which solves together if that "
        "is little work.",
        "solved",
        {
            "time, ms": _TIME,
            "× one after another": _RATIO,
            "% of a step": _SHARE,
            "evaluations": _EVALUATIONS,
        },
    ),
    "solvers": _Layout(
        "The flow by solver: four tasks, without encoder and heads. Peak memory is that of a call, on accelerators "
        "only.",
        "solver, gradient",
        {
            "forward, ms": (lambda own, first, step: own.forward and 1e3 * own.forward, "{1:.2f}"),
            "backward, ms": (lambda own, first, step: own.forward and 1e3 * (own.seconds - own.forward), "{1:.2f}"),
            "time, ms": _TIME,
            "× euler, backprop": _RATIO,
            "evaluations, forward": _EVALUATIONS,
            "backward": (lambda own, first, step: own.evaluations.backward, "{1:.0f}"),
            "peak, MiB": (lambda own, first, step: own.peak_mib, "{1:.1f}"),
        },
    ),
    "batches": _Layout(
        "Batches of normalised 224×224 images. Prepared arrays are meant to give at least 10 × the images of "
        "ImageFolder.",
        "read by",
        {"images/s": _RATE, "× ImageFolder": _FASTER},
    ),
    "preparation": _Layout(
        "Preparation: JPEGs to 224×224 arrays. One worker is meant to be as fast as a bare loop of Pillow, and two 1.8 "
        "times as fast as one.",
        "decoded by",
        {"images/s": _RATE, "× Pillow": _FASTER},
    ),
}


def samples_table(benchmark: str, results: Sequence[Result]) -> Table:
    """A row for each candidate of each workload."""
    layout = LAYOUTS[benchmark]
    by_workload: dict[str, dict[str, Result]] = {}
    for result in results:
        by_workload.setdefault(result.workload, {})[result.candidate] = result
    rows = []
    for workload, own in by_workload.items():
        first = next(iter(own.values())).samples
        steps = own[WHOLE_STEP].samples if WHOLE_STEP in own else (None,) * len(first)
        for candidate, result in own.items():
            rounds = list(zip(result.samples, first, steps, strict=True))
            texts = [_text([measure(*one) for one in rounds], form) for measure, form in layout.columns.values()]
            rows.append(Row(Head(workload), tuple(Cell(text) for text in (candidate, *texts))))
    columns = (Column(Head(layout.candidates), "left"), *(Column(Head(head)) for head in layout.columns))
    return Table(benchmark, f"tab:{benchmark}", layout.caption, "workload", (), columns, tuple(rows))


def _text(values: Iterable[float | None], form: str) -> str:
    """The format, given the first quartile (0), the median (1) and the third quartile (2) of the values."""
    known = [value for value in values if value is not None]
    return form.format(*np.percentile(known, [25, 50, 75])) if known else MISSING


def samples_page(results: Mapping[str, Sequence[Result]], circumstances: str) -> Page:
    """The tables of several benchmarks.

    results: by benchmark, a key of LAYOUTS.
    circumstances: where and how they were measured, in one line.
    """
    values = [
        {
            "benchmark": benchmark,
            "workload": result.workload,
            "candidate": result.candidate,
            "round": index,
            "seconds": sample.seconds,
            "forward_seconds": sample.forward,
            "forward_evaluations": sample.evaluations.forward,
            "backward_evaluations": sample.evaluations.backward,
            "images": sample.images,
            "peak_mib": sample.peak_mib,
        }
        for benchmark, own in results.items()
        for result in own
        for index, sample in enumerate(result.samples)
    ]
    remark = "Medians of the rounds, first and third quartile in brackets; ratios are taken within a round."
    return Page([samples_table(benchmark, own) for benchmark, own in results.items()], [remark, circumstances], values)


SOLVERS = (
    "Milliseconds of a step, median over all families of gradients; × ours: over ours, above 1 if ours is faster; "
    "least: that of the family where it is least. Residuals by the method's own criterion, the worst on random "
    "gradients / on all that single precision can tell from dependent ones: MGDA KKT gap; Nash-MTL max |a(Ga) − 1| up "
    "to scale; IMTL spread of projections; CAGrad gap of its dual; UPGrad conflict. LibMTL's steps include m backward "
    "passes through a product of vectors."
)


def solver_table(solutions: Sequence[Solution], missing: Mapping[str, str]) -> Table:
    """A row for every weighting and number of tasks.

    missing: by package, why it can't be imported; "" if it can.
    """
    packages = [package for package, reason in missing.items() if not reason]
    heads = ["m", "ours, ms", *["ms", "× ours", "least"] * len(packages), "ours", *packages]
    groups = (Group("", 2), *(Group(package, 3) for package in packages), Group("residual", 1 + len(packages)))
    found: dict[tuple[str, int], list[Solution]] = {}
    for solution in solutions:
        found.setdefault((solution.weighting, solution.tasks), []).append(solution)
    rows = []
    for (name, m), here in found.items():
        ours = _median(here, OURS)
        cells = [Cell(str(m)), Cell(f"{ours:.3f}")]
        for package in packages:
            cells += _package_cells(here, package, ours)
        cells += [Cell(_residual(here, candidate)) for candidate in (OURS, *packages)]
        rows.append(Row(Head(WEIGHTINGS[name].label), tuple(cells)))
    columns = tuple(Column(Head(head)) for head in heads)
    return Table("solvers", "tab:solvers", "Weightings by themselves", "weighting", groups, columns, tuple(rows))


def solver_page(solutions: Sequence[Solution], missing: Mapping[str, str]) -> Page:
    absent = [f"{package}: not installed ({INSTALL}). {reason}." for package, reason in missing.items() if reason]
    return Page([solver_table(solutions, missing)], [SOLVERS, *absent], [vars(solution) for solution in solutions])


def _median(here: Sequence[Solution], candidate: str) -> float:
    """Milliseconds; NaN if the candidate has no solver or always failed. Ours never fail."""
    times = [s.milliseconds for s in here if s.candidate == candidate and s.milliseconds is not None]
    return statistics.median(times) if times else math.nan


def _package_cells(here: Sequence[Solution], package: str, ours: float) -> list[Cell]:
    """Its time, that over ours, and the least over ours in a family; the errors it raised are notes."""
    errors = tuple(dict.fromkeys(f"{package}: {s.error}" for s in here if s.candidate == package and s.error))
    theirs = _median(here, package)
    if math.isnan(theirs):
        return [Cell("failed" if errors else MISSING, notes=errors), Cell(), Cell()]
    own = {s.family: s.milliseconds for s in here if s.candidate == OURS}
    least = min(s.milliseconds / (own[s.family] or math.nan) for s in here if s.candidate == package and s.milliseconds)
    return [Cell(f"{theirs:.3f}", notes=errors), Cell(f"{theirs / ours:.1f}"), Cell(f"{least:.2f}")]


def _residual(here: Sequence[Solution], candidate: str) -> str:
    residuals = [(s.family, s.residual) for s in here if s.candidate == candidate and s.residual is not None]
    if not residuals:
        return MISSING
    random = max((value for family, value in residuals if family == "random"), default=math.nan)
    return f"{random:.0e} / {max(value for _, value in residuals):.0e}"

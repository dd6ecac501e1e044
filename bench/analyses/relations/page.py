"""The comparisons of one data set as a page in Markdown and as CSV."""

from __future__ import annotations

import itertools
import math

import numpy as np
from pandas import DataFrame

from bench.analyses.relations.agreement import BETWEEN_SEEDS, Agreement, Agreements, Numbers, Relations, ceiling
from bench.reporting.escaping import csv_cells, md
from bench.reporting.render import markdown
from bench.reporting.tables.table import Cell, Column, Group, Head, Row, Table

CSV_COLUMNS = ("data", "comparison", "seeds", "tasks", "pairs", "rho", "p", "permutations", "exact", "least_p")


def relations_page(relations: Relations) -> str:
    """Tables and figures; docs/normal.md explains them."""
    labels, positions = list(relations.tasks.values()), np.mean(list(relations.positions.values()), axis=0)
    seeds = ", ".join(str(seed) for seed in sorted(relations.positions))
    low, high = int(np.argmin(positions)), int(np.argmax(positions))
    paragraphs = [
        f"# {md(relations.label)}: task positions and task relations",
        "Made from the records by `python -m bench.relations`. How to read it: docs/normal.md, “Do positions mean "
        "anything?”.",
        f"{len(labels)} tasks, {math.comb(len(labels), 2)} pairs, seeds {seeds}. Mean positions: from "
        f"{positions[low]:.3f} ({md(labels[low])}) to {positions[high]:.3f} ({md(labels[high])}).",
        *(f"**{md(remark)}**" for remark in relations.remarks),
        markdown(comparison_table(relations)).strip(),
        markdown(reliability_table(relations)).strip(),
        *([markdown(difficulty_table(relations)).strip()] if relations.difficulty else []),
        markdown(seeds_table(relations)).strip(),
        "![Dendrogram of the mean distances between task positions, average linkage](dendrogram.png)",
        "![Heat maps of the measures, means over seeds; tasks in the order of the dendrogram](heatmap.png)",
        "Data: [relations.csv](relations.csv), and every pair of tasks in [pairs.csv](pairs.csv). Figures for print: "
        "[dendrogram.pdf](dendrogram.pdf), [heatmap.pdf](heatmap.pdf).",
    ]
    return "\n\n".join(paragraphs) + "\n"


def comparison_table(relations: Relations) -> Table:
    """A row per measure: ρ and p of the means over seeds and of each seed; then the partial ones."""
    rows = [_row(relations, measure.title, measure.missing, relations.agreements[measure.name])
            for measure in relations.measures[1:]]  # fmt: skip
    rows += [
        _row(relations, f"{measure.title}, given difficulty", measure.missing, relations.partial[measure.name])
        for measure in relations.known[1:]
        if measure.name in relations.partial
    ]
    test = next(iter(relations.agreements[relations.measures[1].name].values()))
    caption = (
        "Spearman's ρ of the distances between task positions with other measures over all pairs of tasks, and its "
        f"two-sided p-value from {'all' if test.exact else 'a random sample of'} {test.permutations:,} permutations of "
        f"the tasks, not corrected for multiple comparisons. The smallest possible p-value is {_p(test.least_p)}."
    )
    return Table("relations", "", caption, "Measure", *_by_seed_columns(relations), tuple(rows))


def difficulty_table(relations: Relations) -> Table:
    """A row per measure of difficulty: its rank correlation with the positions over tasks."""
    rows = [_row(relations, one.measure.title, one.measure.missing, one.by_seeds) for one in relations.difficulty]
    caption = (
        "Spearman's ρ of the positions themselves with how difficult the tasks are, over tasks, and its two-sided "
        "p-value from permutations of the tasks."
    )
    return Table("difficulty", "", caption, "Difficulty", *_by_seed_columns(relations), tuple(rows))


def reliability_table(relations: Relations) -> Table:
    """A row per measure: how well its seeds agree, and the largest correlation that this allows."""
    distances, seeds = relations.measures[0], len(relations.positions)
    rows = []
    for measure in relations.known:
        highest = [ceiling(distances.reliability, measure.reliability, count) for count in (1, seeds)]
        cells = [measure.reliability, *(highest if measure is not distances else (math.nan, math.nan))]
        rows.append(Row(Head(measure.title), tuple(_number(cell) for cell in cells)))
    caption = (
        "Reliability: Spearman's ρ of a measure between two seeds, averaged over pairs of seeds. Ceiling: the largest "
        f"|ρ| with the distances that such measures can be expected to show, for one seed and for means of {seeds}."
    )
    columns = tuple(Column(Head(head)) for head in ("Reliability", "Ceiling, one seed", "Ceiling, means"))
    return Table("reliability", "", caption, "Measure", (), columns, tuple(rows))


def _by_seed_columns(relations: Relations) -> tuple[tuple[Group, ...], tuple[Column, ...]]:
    """ρ and p of the means over seeds, then of each seed."""
    groups = (Group("Mean over seeds", 2), *(Group(f"Seed {seed}", 2) for seed in sorted(relations.positions)))
    return groups, tuple(Column(Head(head)) for _ in groups for head in ("ρ", "p"))


def _row(relations: Relations, title: str, missing: str, by_seeds: Agreements) -> Row:
    mean = next((found for chosen, found in by_seeds.items() if len(chosen) > 1), None)
    every = (mean, *(by_seeds.get((seed,)) for seed in sorted(relations.positions)))
    cells = tuple(cell for found in every for cell in _cells(found))
    return Row(Head(title, (missing,) if missing else ()), cells)


def seeds_table(relations: Relations) -> Table:
    """A row per pair of seeds."""
    found = relations.agreements[BETWEEN_SEEDS]
    rows = [Row(Head(" and ".join(map(str, seeds))), _cells(agreement)) for seeds, agreement in found.items()]
    caption = "ρ and p of the distances of two seeds" + ("." if rows else ": needs two seeds or more.")
    return Table("seeds", "", caption, "Seeds", (), (Column(Head("ρ")), Column(Head("p"))), tuple(rows))


def _cells(found: Agreement | None) -> tuple[Cell, Cell]:
    if found is None or math.isnan(found.rho):
        return Cell(), Cell()
    return _number(found.rho), Cell(_p(found.p))


def _number(value: float) -> Cell:
    return Cell() if math.isnan(value) else Cell(f"{value:.2f}".replace("-", "−"))


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.4f}"


def relations_csv(relations: Relations) -> str:
    """A line per comparison and seed, and per mean over seeds; numbers at full precision."""
    lines: list[tuple[object, ...]] = []
    partial = {f"{name}, given difficulty": found for name, found in relations.partial.items()}
    difficulty = {f"position and {one.measure.title}": one.by_seeds for one in relations.difficulty}
    for name, by_seeds in {**relations.agreements, **partial, **difficulty}.items():
        for seeds, found in by_seeds.items():
            size = (found.tasks, math.comb(found.tasks, 2))
            test = (found.rho, found.p, found.permutations, int(found.exact), found.least_p)
            lines.append((*csv_cells([relations.data]), name, " ".join(map(str, seeds)), *size, *test))
    return DataFrame(lines, columns=list(CSV_COLUMNS)).to_csv(index=False, lineterminator="\n")


def pairs_csv(relations: Relations) -> str:
    """A line per pair of tasks: the mean of each measure over seeds, then its value in each seed if these differ."""
    columns: dict[str, Numbers] = {measure.name: measure.mean() for measure in relations.known}
    for measure in relations.known:
        if len({values.tobytes() for values in measure.values.values()}) > 1:
            columns |= {f"{measure.name}/seed-{seed}": values for seed, values in sorted(measure.values.items())}
    first, second = zip(*itertools.combinations(relations.tasks, 2), strict=True)
    return DataFrame({"first": csv_cells(first), "second": csv_cells(second), **columns}).to_csv(
        index=False, lineterminator="\n"
    )

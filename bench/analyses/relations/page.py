"""The comparisons of one data set as a page in Markdown and as CSV."""

from __future__ import annotations

import itertools
import math

import numpy as np
from pandas import DataFrame

from bench.analyses.relations.agreement import BETWEEN_SEEDS, Agreement, Numbers, Relations
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
        markdown(comparison_table(relations)).strip(),
        markdown(seeds_table(relations)).strip(),
        "![Dendrogram of the mean distances between task positions, average linkage](dendrogram.png)",
        "![Heat maps of the measures, means over seeds; tasks in the order of the dendrogram](heatmap.png)",
        "Data: [relations.csv](relations.csv), and every pair of tasks in [pairs.csv](pairs.csv). Figures for print: "
        "[dendrogram.pdf](dendrogram.pdf), [heatmap.pdf](heatmap.pdf).",
    ]
    return "\n\n".join(paragraphs) + "\n"


def comparison_table(relations: Relations) -> Table:
    """A row per measure: ρ and p of the means over seeds and of each seed."""
    seeds = sorted(relations.positions)
    groups = [Group("Mean over seeds", 2), *(Group(f"Seed {seed}", 2) for seed in seeds)]
    rows = []
    for measure in relations.measures[1:]:
        by_seeds = relations.agreements[measure.name]
        mean = next((found for chosen, found in by_seeds.items() if len(chosen) > 1), None)
        cells = [cell for found in (mean, *(by_seeds.get((seed,)) for seed in seeds)) for cell in _cells(found)]
        notes = (measure.missing,) if measure.missing else ()
        rows.append(Row(Head(measure.title, notes), tuple(cells)))
    columns = tuple(Column(Head(head)) for _ in groups for head in ("ρ", "p"))
    test = next(iter(relations.agreements[relations.measures[1].name].values()))
    caption = (
        "Spearman's ρ of the distances between task positions with other measures over all pairs of tasks, and its "
        f"two-sided p-value from {'all' if test.exact else 'a random sample of'} {test.permutations:,} permutations of "
        f"the tasks, not corrected for multiple comparisons. The smallest possible p-value is {_p(test.least_p)}."
    )
    return Table("relations", "", caption, "Measure", tuple(groups), columns, tuple(rows))


def seeds_table(relations: Relations) -> Table:
    """A row per pair of seeds."""
    found = relations.agreements[BETWEEN_SEEDS]
    rows = [Row(Head(" and ".join(map(str, seeds))), _cells(agreement)) for seeds, agreement in found.items()]
    caption = "The same for the distances of two seeds" + ("." if rows else ": needs two seeds or more.")
    return Table("seeds", "", caption, "Seeds", (), (Column(Head("ρ")), Column(Head("p"))), tuple(rows))


def _cells(found: Agreement | None) -> tuple[Cell, Cell]:
    if found is None or math.isnan(found.rho):
        return Cell(), Cell()
    return Cell(f"{found.rho:.2f}".replace("-", "−")), Cell(_p(found.p))


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.4f}"


def relations_csv(relations: Relations) -> str:
    """A line per comparison and seed, and per mean over seeds; numbers at full precision."""
    lines: list[tuple[object, ...]] = []
    for name, by_seeds in relations.agreements.items():
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

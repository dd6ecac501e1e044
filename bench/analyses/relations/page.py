"""What came out of comparing task positions with task relations, in words and numbers."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bench.analyses.relations.agreement import Agreement, Comparison, Measure, Relations, mean_over_seeds
from bench.reporting.labels import seed_list
from bench.reporting.render import markdown, md
from bench.reporting.tables.table import Cell, Column, Group, Head, Row, Table

# A p-value below this is called more than chance.
LEVEL = 0.05
# A smaller |ρ| is called slight. J. Cohen, "Statistical power analysis for the behavioral sciences" (1988), §3.2.
MEDIUM = 0.3
CSV_COLUMNS = (
    "data", "comparison", "seeds", "tasks", "pairs", "rho", "p", "permutations", "exact", "least_p", "left_out",
    "missing",
)  # fmt: skip
BETWEEN_SEEDS = "distance_other_seed"


def relations_page(relations: Relations) -> str:
    """A page in Markdown; its sentences are chosen by the numbers."""
    paragraphs = [
        f"# {md(relations.label)}: task positions and task relations",
        "Made from the records by `python -m bench.relations`; it can be deleted and made again.",
        _question(relations),
        _positions(relations),
        *(f"{md(note)}." for note in relations.notes),
        "## Do tasks that are alike lie close to each other?",
        markdown(_comparison_table(relations)).strip(),
        *(_comparison_text(relations, comparison) for comparison in relations.comparisons),
        "## Do seeds agree?",
        *_between_seeds(relations),
        "## Figures",
        "![Tree of the mean distances between task positions, average linkage](dendrogram.png)",
        "![Position distances and what they are compared with, means over seeds; in order of the tree](heatmap.png)",
        "Numbers: [relations.csv](relations.csv), and every pair of tasks in [pairs.csv](pairs.csv). Figures for "
        "print: [dendrogram.pdf](dendrogram.pdf), [heatmap.pdf](heatmap.pdf).",
    ]
    return "\n\n".join(paragraphs) + "\n"


def _question(relations: Relations) -> str:
    m = len(relations.tasks)
    some = next(_agreements(relations), None)
    permuted = powerless = ""
    if some is not None:
        permuted = (
            f", all {some.permutations:,} permutations"
            if some.exact
            else f", {some.permutations:,} random permutations"
        )
        powerless = f" **{_powerless(m, some.least_p)}**" if some.least_p >= LEVEL else ""
    return (
        "Ye et al. (IJCAI 2023, §5.4) say that the task positions which NORMAL learns reflect task relations. Here the "
        "distance `|p_i − p_j|` at the end of the selected epoch is compared with other measures over the "
        f"{math.comb(m, 2)} pairs of {m} tasks: ρ is Spearman's rank correlation, p its two-sided p-value from "
        f"permuting tasks (Mantel test{permuted}). If positions reflect a relation, ρ is negative: the more alike two "
        "tasks, the closer. The p-values are not corrected for the number of comparisons." + powerless
    )


def _agreements(relations: Relations) -> Iterator[Agreement]:
    for comparison in relations.comparisons:
        yield from comparison.by_seed.values()
    yield from relations.between_seeds.values()


def _powerless(m: int, least_p: float) -> str:
    return (
        f"With {m} tasks there are only {math.factorial(m)} permutations, and no p-value below {least_p:.2f} can come "
        "out: "
        "nothing on this page can be told from chance."
    )


def _positions(relations: Relations) -> str:
    values = mean_over_seeds(relations.positions)
    low, high = int(np.argmin(values)), int(np.argmax(values))
    labels = relations.labels
    return (
        f"Positions, {_averaged(tuple(relations.positions))}: from {_number(values[low], 3)} ({md(labels[low])}) to "
        f"{_number(values[high], 3)} ({md(labels[high])})."
    )


def _averaged(seeds: Sequence[int]) -> str:
    return f"mean over {seed_list(seeds)}" if len(seeds) > 1 else seed_list(seeds)


def _comparison_table(relations: Relations) -> Table:
    seeds = sorted(relations.positions)
    averaged = len(seeds) > 1
    groups = [Group("Mean over seeds", 2)] * averaged + [Group(f"Seed {seed}", 2) for seed in seeds]
    rows = []
    for comparison in relations.comparisons:
        found = [comparison.mean] * averaged + [comparison.by_seed.get(seed) for seed in seeds]
        cells = tuple(cell for agreement in found for cell in _cells(agreement))
        rows.append(Row(Head(comparison.measure.title, notes=_lacking(comparison, seeds)), cells))
    columns = tuple(Column(Head(head)) for _ in groups for head in ("ρ", "p"))
    caption = "Rank correlation of the distances between task positions with"
    return Table("relations", "", caption, "Measure", tuple(groups), columns, tuple(rows))


def _lacking(comparison: Comparison, seeds: Sequence[int]) -> tuple[str, ...]:
    """A note where a row's mean is not over all seeds."""
    lacking = [seed for seed in seeds if seed not in comparison.by_seed]
    return (f"without {seed_list(lacking)}",) if comparison.by_seed and lacking else ()


def _cells(found: Agreement | None) -> tuple[Cell, Cell]:
    if found is None or math.isnan(found.rho):
        return Cell(), Cell()
    return Cell(_number(found.rho, 2)), Cell(_p(found.p))


def _comparison_text(relations: Relations, comparison: Comparison) -> str:
    """One or two sentences on a row of the table, and what to bear in mind."""
    measure = comparison.measure
    head = f"**{md(measure.title)}.**"
    if not comparison.by_seed:
        return f"{head} Missing. {measure.missing}"
    seeds = list(comparison.by_seed) if comparison.mean is not None else list(comparison.by_seed)[:1]
    main = comparison.mean or comparison.by_seed[seeds[0]]
    found = _finding(measure, main, _averaged(seeds))
    texts = [head, found, _seed_counts(comparison), _left_out(relations, main), measure.remark]
    return " ".join(filter(None, texts))


def _finding(measure: Measure, found: Agreement, seeds: str) -> str:
    if math.isnan(found.rho):
        return "There is no rank correlation: one side doesn't vary, or isn't defined for some pair."
    least = f", the least that {found.tasks} tasks allow" if found.exact and found.p == found.least_p else ""
    numbers = f"ρ = {_number(found.rho, 2)}, p = {_p(found.p)}{least} ({seeds})"
    if found.p >= LEVEL:
        return f"Nothing that can be told from chance: {numbers}."
    alike = measure.alike[0].upper() + measure.alike[1:]
    slightly = "slightly " if abs(found.rho) < MEDIUM else ""
    if found.rho < 0:
        return f"{alike} lie {slightly}closer to each other, as the claim says: {numbers}."
    return f"{alike} lie {slightly}further from each other, the opposite of the claim: {numbers}."


def _seed_counts(comparison: Comparison) -> str:
    """How the single seeds fared, where there are several."""
    found = list(comparison.by_seed.values())
    if len(found) < 2:
        return ""
    negative = [one for one in found if one.rho < 0]
    contrary = [one for one in found if one.rho > 0]
    parts = [
        f"{sign} in {len(those)} of {len(found)}" + _of_them_clear(those)
        for sign, those in (("negative", negative), ("positive", contrary))
        if those
    ]
    return f"Seed by seed, ρ is {', '.join(parts)}." if parts else ""


def _of_them_clear(found: Sequence[Agreement]) -> str:
    clear = sum(one.p < LEVEL for one in found)
    return f" (p < {LEVEL} in {clear})" if clear else ""


def _left_out(relations: Relations, found: Agreement) -> str:
    names = ", ".join(md(relations.labels[place]) for place in found.left_out)
    return f"Without {names}, for which it isn't defined." if names else ""


def _between_seeds(relations: Relations) -> list[str]:
    found = relations.between_seeds
    if not found:
        return [f"Missing: it takes runs of NORMAL with two seeds or more, found {seed_list(relations.positions)}."]
    rows = [
        Row(Head(f"{first} and {second}"), _cells(agreement)) for (first, second), agreement in sorted(found.items())
    ]
    caption = "Distances between the same tasks in two seeds; here agreement is a positive ρ"
    table = Table("seeds", "", caption, "Seeds", (), (Column(Head("ρ")), Column(Head("p"))), tuple(rows))
    return [markdown(table).strip(), _seeds_text(list(found.values()))]


def _seeds_text(found: Sequence[Agreement]) -> str:
    defined = [one.rho for one in found if not math.isnan(one.rho)]
    if not defined:
        return "There is no rank correlation: the positions of a seed are all the same."
    clear = sum(one.p < LEVEL and one.rho > 0 for one in found)
    text = f"Mean ρ of the {len(defined)} pairs of seeds: {_number(float(np.mean(defined)), 2)}."
    if len(defined) == 1:
        text = ""
    if clear == len(found):
        verdict = "Seeds agree on which tasks are close to each other, more than by chance"
    elif clear:
        verdict = f"In {clear} of {len(found)} pairs, seeds agree on which tasks are close, more than by chance"
    else:
        verdict = "No agreement between seeds that can be told from chance"
    return f"{text} {verdict}.".strip()


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.4f}"


def relations_csv(relations: Relations) -> str:
    """A line per comparison and seed or seeds, at full precision; a measure that is missing has one that says why."""
    lines: list[Mapping[str, object]] = []
    for comparison in relations.comparisons:
        own = {"comparison": comparison.measure.name}
        if not comparison.by_seed:
            lines.append({**own, "missing": comparison.measure.missing})
        for seed, found in comparison.by_seed.items():
            lines.append({**own, **_columns(relations, [seed], found)})
        if comparison.mean is not None:
            lines.append({**own, **_columns(relations, list(comparison.by_seed), comparison.mean)})
    for seeds, found in sorted(relations.between_seeds.items()):
        lines.append({"comparison": BETWEEN_SEEDS, **_columns(relations, seeds, found)})
    return _csv(CSV_COLUMNS, [{"data": relations.data, **line} for line in lines])


def _columns(relations: Relations, seeds: Sequence[int], found: Agreement) -> dict[str, object]:
    keys = list(relations.tasks)
    return {
        "seeds": " ".join(str(seed) for seed in seeds),
        "tasks": found.tasks,
        "pairs": math.comb(found.tasks, 2),
        "rho": repr(found.rho),
        "p": repr(found.p),
        "permutations": found.permutations,
        "exact": int(found.exact),
        "least_p": repr(found.least_p),
        "left_out": " ".join(keys[place] for place in found.left_out),
    }


def pairs_csv(relations: Relations) -> str:
    """A line per pair of tasks: each measure's mean over seeds, then its value in every seed where they differ."""
    columns: dict[str, Sequence[float]] = {}
    measures = (relations.distances, *relations.measures)
    columns |= {measure.name: measure.mean.tolist() for measure in measures}
    for measure in (one for one in measures if one.varies):
        columns |= {f"{measure.name}/seed-{seed}": values.tolist() for seed, values in sorted(measure.values.items())}
    pairs = list(itertools.combinations(relations.tasks, 2))
    lines = [
        {"first": first, "second": second, **{name: repr(values[place]) for name, values in columns.items()}}
        for place, (first, second) in enumerate(pairs)
    ]
    return _csv(("first", "second", *columns), lines)


def _csv(columns: Sequence[str], lines: Sequence[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()

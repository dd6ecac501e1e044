"""The table over problems: ranks, and the verdict on every problem."""

from __future__ import annotations

from bench.reporting.across import Across, times_ratios
from bench.reporting.tables.table import Cell, Column, Head, Row, Table


def problems_table(across: Across) -> Table:
    """A row for each method: its mean rank over the problems, and its verdict on each."""
    heads = [Head("Rank ↓", (), {"metric": "mean_rank", "direction": "lower"})]
    heads += [
        Head(one.comparison.problem, (), {"metric": f"verdict on {one.comparison.data}"}) for one in across.problems
    ]
    columns = (Column(heads[0]), *(Column(head, "left") for head in heads[1:]))
    rows = tuple(_row(across, label) for label in across.labels)
    name = f"problems-{across.part}" if across.part else "problems"
    return Table(name, f"tab:{name}", _caption(across), "Method", (), columns, rows)


def _caption(across: Across) -> str:
    sentences = [
        f"Ranks and verdicts on {len(across.problems)} problems. Rank: by the mean overall test score among the rows "
        "that are ranked (1 is best), mean over problems, with a 95 % interval from resampling seeds; it says nothing "
        "of problems that are not here. Verdicts: of the table of each problem."
    ]
    if across.controls:
        sentences.append(f"Left out as controls, whose answer is known: {', '.join(across.controls)}.")
    if across.others:
        sentences.append(f"Left out, so that no data set counts twice: {'; '.join(across.others)}.")
    ratios = times_ratios(across)
    if ratios and (out := [label for label in across.labels if label not in ratios]):
        sentences.append(f"Not in the profile, since a time to target is missing: {'; '.join(out)}.")
    return " ".join(sentences)


def _row(across: Across, label: str) -> Row:
    rank = across.ranks[label].rank
    lacking = ", ".join(across.problems[place].comparison.problem for place in across.ranks[label].lacking)
    if rank is None:
        cells = [Cell(notes=(f"not ranked: a seed is missing on {lacking}",))]
    else:
        text = f"{rank.value:.2f} [{rank.low:.2f}, {rank.high:.2f}]"
        cells = [Cell(text, rank.value, interval=(rank.low, rank.high))]
    for problem in across.problems:
        variant = across.row(problem, label)
        verdict = str(problem.contrasts.rows[variant.label].verdict) if variant else ""
        cells.append(Cell(verdict) if verdict else Cell())
    return Row(Head(label, (), {"method": label}), tuple(cells))

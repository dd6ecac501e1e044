"""The table over problems: ranks, and the score and verdict on every problem."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bench.reporting.across import Across, times_ratios
from bench.reporting.labels import hidden_rows
from bench.reporting.overall import overall_unit
from bench.reporting.sections import Analysis
from bench.reporting.tables.table import Cell, Column, Group, Head, Row, Table, without_rows
from bench.reporting.tables.verdicts import best_rows, number


def problems_table(across: Across) -> Table:
    """A row for each method: its mean rank over the problems, and its score and verdict on each.

    Ranks and marks are of all rows, whatever is shown.
    """
    groups = [Group("", 1), *(Group(one.comparison.problem, 2) for one in across.problems)]
    columns = [Column(Head("Rank ↓", (), {"metric": "mean_rank", "direction": "lower"}))]
    for one in across.problems:
        data, unit = one.comparison.data, overall_unit(one.comparison)
        shown = f"Score ({unit}) ↑" if unit else "Log gain ↑"
        score = Head(shown, (), {"metric": f"score on {data}", "unit": unit, "direction": "higher"})
        columns += [Column(score), Column(Head("Verdict", (), {"metric": f"verdict on {data}"}), "left")]
    best = [best_rows(one.comparison) for one in across.problems]
    rows = tuple(_row(across, label, best) for label in across.labels)
    name = f"problems-{across.part}" if across.part else "problems"
    caption = f"Ranks and verdicts on {len(across.problems)} problems."
    table = Table(name, f"tab:{name}", caption, "Method", tuple(groups), tuple(columns), rows, _note(across))
    return without_rows(table, across.hidden, hidden_rows(across.hidden))


def _note(across: Across) -> str:
    sentences = [
        "Rank: by the mean overall test score among the rows "
        "that are ranked (1 is best), mean over problems, with a 95 % interval from resampling seeds; it says nothing "
        "of problems that are not here. Scores and verdicts: of the table of verdicts of each problem, which has their "
        "intervals and says what is compared. Bold: no other row is significantly better."
    ]
    if across.controls:
        sentences.append(f"Left out as controls, whose answer is known: {', '.join(across.controls)}.")
    if across.others:
        sentences.append(f"Left out, so that no data set counts twice: {'; '.join(across.others)}.")
    ratios = times_ratios(across)
    if ratios and (out := [label for label in across.labels if label not in ratios]):
        sentences.append(f"Not in the profile, since a time to target is missing: {'; '.join(out)}.")
    return " ".join(sentences)


def _row(across: Across, label: str, best: Sequence[Collection[str]]) -> Row:
    rank = across.ranks[label].rank
    if rank is None:
        cells = [Cell(notes=(_why_unranked(across, label),))]
    else:
        text = f"{rank.value:.2f} [{rank.low:.2f}, {rank.high:.2f}]"
        cells = [Cell(text, rank.value, interval=(rank.low, rank.high))]
    for problem, bold in zip(across.problems, best, strict=True):
        cells += _on_problem(across, problem, label, bold)
    return Row(Head(label, (), {"method": label}), tuple(cells))


def _why_unranked(across: Across, label: str) -> str:
    lacking = [across.problems[place] for place in across.ranks[label].lacking]
    absent = ", ".join(p.comparison.problem for p in lacking if across.row(p, label) is None)
    short = ", ".join(p.comparison.problem for p in lacking if across.row(p, label) is not None)
    reasons = (f"it has no run on {absent}" if absent else "", f"a seed is missing on {short}" if short else "")
    return "not ranked: " + "; ".join(filter(None, reasons))


def _on_problem(across: Across, problem: Analysis, label: str, best: Collection[str]) -> tuple[Cell, Cell]:
    """The score and the verdict of a row."""
    variant = across.row(problem, label)
    if variant is None:
        return Cell(), Cell()
    contrast = problem.contrasts.rows[variant.label]
    verdict = Cell(str(contrast.verdict)) if str(contrast.verdict) else Cell()
    if contrast.score is None:
        return Cell(), verdict
    score = contrast.score.value
    shown = number(score, overall_unit(problem.comparison))
    return Cell(shown, score, None, contrast.seeds, variant.key in best), verdict

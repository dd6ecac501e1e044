"""Figures of what changes during training: scores, positions of tasks, weights, and agreement of gradients."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from matplotlib.figure import Figure

from bench.records.plain_text import one_line
from bench.records.record import PERCENT, MetricRecord
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.figures.lines import (
    MOST_LINES,
    MOST_PANELS,
    Line,
    Panel,
    Scale,
    in_grey,
    lines_figure,
    marked,
)
from bench.reporting.figures.style import COLOURS, DASHES, colour_of, folded, metric_name
from bench.reporting.overall import by_score
from bench.reporting.series import Band
from bench.reporting.spacing import evenly_spaced, evenly_spaced_places

MOST_TASKS = 12  # each with a panel
OWN_COLOUR = COLOURS[7]  # of the row that a panel is about

Bands = Mapping[str, Band]


def curves_figure(comparison: Comparison, bands: Bands) -> Figure | None:
    """Validation score over epochs of every row: in one panel, or each in its own beside EW; None without curves.

    Of very many rows, those with the best test scores.

    bands: by variant.
    """
    rows = [variant for variant in comparison.shown if variant.key in bands]
    metric = comparison.tasks[0].metrics[0]
    factor, what = (1.0, "log gain") if comparison.selection == "gain" else (_factor(metric), metric_name(metric))
    scale = Scale("Epoch", f"Validation {what}", zoomed=True)
    if len(rows) <= MOST_LINES:
        lines = [_line(place, row, bands[row.key]) for place, row in enumerate(rows)]
        return lines_figure([Panel("", lines, factor)], scale)
    baseline = comparison.baseline
    grey = [in_grey(bands[baseline.key], baseline.label)] if baseline and baseline.key in bands else []
    others = _with_panels(comparison, [row for row in rows if baseline is None or not row.is_row(baseline)])
    panels = [
        Panel(folded(row.label), [*grey, Line("the row named above", OWN_COLOUR, bands[row.key])], factor)
        for row in others
    ]
    return lines_figure(panels, scale)


def task_curves_figure(comparison: Comparison, bands: Mapping[str, Bands]) -> Figure | None:
    """The first metric of each task on validation, a panel per task; None without curves or with one task.

    Of many rows, EW and those with the best test scores. Of many tasks, some, evenly spaced by their last values.

    bands: by task, then by variant.
    """
    known: Collection[str] = {key for of_task in bands.values() for key in of_task}
    rows = legible_rows(comparison, known)
    last = {
        task: float(of_task[row.key].mean[-1])
        for task, of_task in bands.items()
        for row in rows[:1]
        if row.key in of_task
    }
    if len(comparison.tasks) < 2 or not last:
        return None
    keys = evenly_spaced(last, MOST_TASKS)
    tasks = [task for task in comparison.tasks if task.key in keys]
    alike = len({(task.metrics[0].key, task.metrics[0].unit) for task in tasks}) == 1
    panels = []
    for task in tasks:
        metric, of_task = task.metrics[0], bands[task.key]
        lines = [_line(place, row, of_task[row.key]) for place, row in enumerate(rows) if row.key in of_task]
        title = one_line(task.label if alike else f"{task.label}: {metric_name(metric)}")
        panels.append(Panel(title, lines, _factor(metric)))
    what = metric_name(tasks[0].metrics[0]) if alike else "score"
    return lines_figure(panels, Scale("Epoch", f"Validation {what}", shared=alike, zoomed=True))


def weights_figure(comparison: Comparison, bands: Mapping[str, Bands]) -> Figure | None:
    """The weights of each row whose weights differ or change, over their mean: a panel per row; None without any.

    Of very many rows, those with the best test scores. Of many tasks, some, about evenly spaced by their last weight in
    the first of these rows.

    bands: by variant, then by task.
    """
    rows = _with_panels(comparison, [variant for variant in comparison.shown if variant.key in bands])
    if not rows:
        return None
    last = {task: float(found.mean[-1]) for task, found in bands[rows[0].key].items()}
    keys = _told_apart(comparison, last)
    panels = [Panel(folded(row.label), _of_tasks(comparison, bands[row.key], keys)) for row in rows]
    return lines_figure(panels, Scale("Epoch", "Weight over the mean of all weights"))


def positions_figure(comparison: Comparison, bands: Bands, chosen: Sequence[str] = ()) -> Figure | None:
    """Task positions over steps: of the chosen tasks, or of all; None without any.

    Of many tasks, some are drawn, about evenly spaced in the order of their final positions.

    bands: by task.
    """
    wanted = {key: bands[key] for key in bands if key in chosen}
    last = {key: float(found.mean[-1]) for key, found in (wanted or bands).items()}
    keys = sorted(wanted, key=lambda key: -last[key]) or _told_apart(comparison, last)
    return lines_figure([Panel("", _of_tasks(comparison, bands, keys))], Scale("Training step", "Task position"))


def agreement_figure(comparison: Comparison, cosines: Bands, conflicts: Bands) -> Figure | None:
    """How task gradients agree: their mean cosine, and the share of pairs that conflict; None without any.

    Of many rows, EW and those with the best test scores.

    cosines, conflicts: by variant.
    """
    rows = legible_rows(comparison, cosines)
    panels = [
        Panel(title, [_line(place, row, bands[row.key]) for place, row in enumerate(rows)], factor)
        for title, bands, factor in (
            ("Mean cosine of two tasks' gradients", cosines, 1.0),
            ("Pairs in conflict (%)", conflicts, 100.0),
        )
    ]
    return lines_figure(panels, Scale("Training step", "", shared=False))


def legible_rows(comparison: Comparison, known: Collection[str]) -> list[Variant]:
    """The rows among `known` variants, EW first; if they are too many, EW and those with the best test scores."""
    rows = [variant for variant in comparison.shown if variant.key in known]
    if len(rows) <= MOST_LINES:
        return rows
    baseline = [row for row in rows if comparison.baseline is not None and row.is_row(comparison.baseline)]
    others = [row for row in by_score(comparison, rows) if row not in baseline]
    return [*baseline, *others][:MOST_LINES]


def _with_panels(comparison: Comparison, rows: Sequence[Variant]) -> list[Variant]:
    """The rows, in order; if they are too many for a page, those with the best test scores."""
    best = {row.key for row in by_score(comparison, rows)[:MOST_PANELS]}
    return [row for row in rows if row.key in best]


def _line(place: int, row: Variant, band: Band) -> Line:
    return Line(row.label, colour_of(row.colour), band, DASHES[place % len(DASHES)], marked(place))


def _told_apart(comparison: Comparison, values: Mapping[str, float]) -> list[str]:
    """At most MOST_LINES tasks, the highest value first: about evenly spaced, and no two of the same colour."""
    colours = {task.key: colour_of(place) for place, task in enumerate(comparison.tasks)}
    ordered = sorted(values, key=lambda key: values[key], reverse=True)
    first, *middle = evenly_spaced_places(len(ordered), MOST_LINES) or [0]
    shown: list[str] = []
    for place in (first, *middle[-1:], *middle[:-1]):
        free = [key for key in ordered if colours[key] not in {colours[other] for other in shown}]
        shown += sorted(free, key=lambda key: abs(ordered.index(key) - place))[:1]
    return [key for key in ordered if key in shown]


def _of_tasks(comparison: Comparison, bands: Bands, keys: Sequence[str]) -> list[Line]:
    """A task looks the same in all figures of a problem, whichever others are drawn; no two tasks look alike."""
    places = {task.key: place for place, task in enumerate(comparison.tasks)}
    return [_task_line(places[key], comparison.tasks[places[key]].label, bands[key]) for key in keys if key in bands]


def _task_line(place: int, label: str, band: Band) -> Line:
    """place: of the task in its problem. Tasks of the same colour have other dashes."""
    dashes = DASHES[(place % 2 + 2 * (place // len(COLOURS))) % len(DASHES)]
    return Line(label, colour_of(place), band, dashes, marked(place))


def _factor(metric: MetricRecord) -> float:
    return 100.0 if metric.unit == PERCENT else 1.0

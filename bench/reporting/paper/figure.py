"""Figure 2 of the paper from our records: the task positions of NORMAL throughout training, a panel per data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bench.reporting.comparison import Comparison
from bench.reporting.figures.lines import MOST_LINES
from bench.reporting.figures.panels import Panel, panels_figure
from bench.reporting.logged import position_bands
from bench.reporting.paper.layout import LABELS
from bench.reporting.paper.rows import FilledTable
from bench.reporting.series import Band
from bench.reporting.spacing import evenly_spaced

NAME = "figure2"
METHOD = "NORMAL"
# The attributes of CelebA whose positions Section 5.4 compares.
NAMED = ("sideburns", "wavy_hair", "receding_hairline", "5_o_clock_shadow")
TITLE = (
    "Task positions of NORMAL throughout training, laid out as Figure 2 of Ye et al. (IJCAI 2023); all lines are from "
    "our own runs: mean over finished seeds, shaded from the lowest to the highest."
)


def figure2(results: Path, filled: Sequence[FilledTable], chosen: Sequence[str] = ()) -> tuple[Figure | None, str]:
    """The figure, None without any positions, and a sentence for each panel.

    filled: Tables 1 to 3. chosen: keys of the tasks to draw; () for as many as are legible.
    """
    panels, sentences = [], [TITLE]
    for letter, data in zip("abcd", LABELS, strict=True):
        panel, sentence = _panel(results, filled, data, f"({letter}) {LABELS[data]}", chosen)
        panels.append(panel)
        sentences += [sentence] if sentence else []
    figure = panels_figure(panels) if any(panel.lines for panel in panels) else None
    return figure, " ".join(sentences)


def _panel(
    results: Path, filled: Sequence[FilledTable], data: str, title: str, chosen: Sequence[str]
) -> tuple[Panel, str]:
    for table in filled:
        row = next(row for row in table.rows if row.printed == METHOD)
        variant = row.variants.get(data)
        bands = position_bands(results, table.comparisons[data], variant) if variant else {}
        if bands:
            return _drawn(table.comparisons[data], bands, title, chosen)
    return Panel(title, (), "no positions of NORMAL here"), f"No positions of NORMAL on {LABELS[data]}."


def _drawn(comparison: Comparison, bands: Mapping[str, Band], title: str, chosen: Sequence[str]) -> tuple[Panel, str]:
    labels = {task.key: task.label for task in comparison.tasks}
    wanted = {key: bands[key] for key in chosen if key in bands}
    final = {key: float(band.mean[-1]) for key, band in (wanted or bands).items()}
    keys = evenly_spaced(final, len(wanted) or MOST_LINES, NAMED)
    how = "" if wanted else ", among them those that Section 5.4 names; the others evenly spaced by final position"
    sentence = f"{title}: {len(keys)} of {len(labels)} tasks{how}." if len(keys) < len(labels) else ""
    return Panel(title, tuple((labels[key], bands[key]) for key in keys)), sentence

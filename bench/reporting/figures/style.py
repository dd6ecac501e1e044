"""The look of all figures, and how they are saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import IO, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench.records.files import atomic_write
from bench.records.plain_text import one_line
from bench.records.record import MetricRecord

# Inches: a column of a two-column page.
WIDTH = 3.4
# P. Tol, "Colour schemes", the scheme "muted", which people with any colour vision can tell apart; EW is near black.
COLOURS = (
    "#222222", "#88ccee", "#117733", "#cc6677", "#999933", "#44aa99", "#882255", "#332288", "#e08214", "#aa4499",
)  # fmt: skip
LONGEST_LINE = 36  # characters of a label; most of a figure of WIDTH is then left for its axes
# Beside colours, so that rows can be told apart in grey.
MARKERS = "osD^v<>Pp*hX"
DASHES: tuple[Any, ...] = (
    "-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (9, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)),
)  # fmt: skip
STYLE: dict[Any, Any] = {
    # Like Times, which most papers are set in. What it lacks comes from the second font.
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "mathtext.fontset": "stix",
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
    # Dollar signs in text from records don't start a formula; texts with formulas of ours say so.
    "text.parse_math": False,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "mtl-bench",
}
GRID: Mapping[str, Any] = {"color": "#e4e4e4", "linewidth": 0.6}
GREY = "#777777"  # of reference lines
# Without the date and the program, the same records give the same bytes.
PLAIN: Mapping[str, Mapping[str, Any]] = {
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "png": {"Software": None},
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Our style over matplotlib's own defaults, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def lay_out(figure: Figure) -> None:
    """Lays the figure out once for all formats: that takes most of the time of drawing."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        with paper_style():
            engine.execute(figure)
        figure.set_layout_engine("none")


def draw(figure: Figure, file: Path | IO[bytes], ending: str, **options: Any) -> None:
    """Writes a figure in the format of this ending. options: of `Figure.savefig`."""
    lay_out(figure)
    with paper_style(), matplotlib.rc_context({"figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)  # a figure with an engine, even with "none", is drawn twice
        figure.savefig(file, format=ending, **options)


def save(figure: Figure, stem: Path) -> tuple[Path, ...]:
    """Writes <stem>.pdf and <stem>.png; returns their paths."""
    paths = []
    for ending, metadata in PLAIN.items():
        path = stem.with_name(f"{stem.name}.{ending}")

        def write(temporary: Path, ending: str = ending, metadata: Mapping[str, Any] = metadata) -> None:
            draw(figure, temporary, ending, metadata=dict(metadata))

        atomic_write(path, write)
        paths.append(path)
    return tuple(paths)


def colour_of(index: int) -> str:
    """A colour per method, the same in all figures."""
    return COLOURS[index % len(COLOURS)]


def metric_name(metric: MetricRecord) -> str:
    """The metric and its unit, for the label of an axis."""
    return one_line(f"{metric.label.lower()}{f' ({metric.unit})' if metric.unit else ''}")


def folded(label: str) -> str:
    """A label in lines that leave room for axes, with each setting on its own, if settings in parentheses end it."""
    name, bracket, settings = one_line(label).partition(" (")
    lines = [name, *(f"({settings}".replace(", ", ",\n ").split("\n") if bracket else ())]
    shown = "\n".join(part for line in lines for part in wrap(line, LONGEST_LINE) or [line])
    return f" {shown}" if shown.startswith("_") else shown  # a legend leaves out labels that start with _

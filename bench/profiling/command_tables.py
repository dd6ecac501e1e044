"""Tables of python -m bench.speed data --trees."""

from __future__ import annotations

from collections.abc import Sequence

from bench.profiling.commands import BACKBONE, BATCH, JOBS, PLAN_SECONDS, SIZE, Measured
from bench.profiling.tables import Page
from bench.reporting.tables.table import MISSING, Cell, Column, Head, Row, Table
from datasets import DATASETS

_COMMANDS = (
    "Commands on tiny JPEGs with the names and counts of the real data sets. Peak memory is that of all processes of a "
    "command together, including pages of the decoded arrays, which the system can drop. "
    f"plan: of it, at most {PLAN_SECONDS} s time training steps; run: two runs of EW, {JOBS} at a time, one epoch each."
)
_RUNS = (
    "A training process on decoded data. Start: from the start of the process to its first training step, the slower "
    "of two, meant to stay within 5 s. Anonymous memory, without the pages of files: the larger of two peaks. What "
    "the data takes is the difference to the same run on few images, meant to stay within 300 MiB."
)


def commands_page(measured: Sequence[Measured], circumstances: str) -> Page:
    """Both tables, and all values.

    circumstances: where and how they were measured, in one line.
    """
    height, width = SIZE
    remark = (
        f"One run of each command, on files that were just written. Training: {BACKBONE} without pretrained weights, "
        f"images of {height}×{width}, batches of {BATCH}."
    )
    return Page([commands_table(measured), runs_table(measured)], [remark, circumstances], _values(measured))


def commands_table(measured: Sequence[Measured]) -> Table:
    """A row for each command on each data set."""
    rows = [
        Row(_head(one), (Cell(command), Cell(f"{usage.seconds:.1f}"), Cell(_mebibytes(usage.peak_mib))))
        for one in measured
        for command, usage in one.usages.items()
    ]
    columns = (Column(Head("command"), "left"), Column(Head("s")), Column(Head("peak, MiB")))
    return Table("commands", "tab:commands", _COMMANDS, "data set", (), columns, tuple(rows))


def runs_table(measured: Sequence[Measured]) -> Table:
    """A row for each data set."""
    rows = [
        Row(
            _head(one),
            (
                Cell(f"{one.start_up:.1f}"),
                Cell(_mebibytes(one.anonymous)),
                Cell(_mebibytes(one.few_anonymous)),
                Cell(_mebibytes(_of_data(one))),
            ),
        )
        for one in measured
    ]
    heads = ("start, s", "anonymous, MiB", "with few images", "data")
    return Table("runs", "tab:runs", _RUNS, "data set", (), tuple(Column(Head(head)) for head in heads), tuple(rows))


def _head(one: Measured) -> Head:
    return Head(f"{DATASETS[one.data].label}, {one.images:,} images")


def _of_data(one: Measured) -> float | None:
    """MiB of anonymous memory that a training process takes on this data and not on few images."""
    if one.anonymous is None or one.few_anonymous is None:
        return None
    return one.anonymous - one.few_anonymous


def _mebibytes(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f}"


def _values(measured: Sequence[Measured]) -> list[dict[str, object]]:
    """A row for each command, and one for a training process of each data set."""
    rows: list[dict[str, object]] = []
    for one in measured:
        own = {"data": one.data, "images": one.images}
        rows.append({**own, "measured": "writing", "seconds": one.writing})
        for command, usage in one.usages.items():
            rows.append({**own, "measured": command, "seconds": usage.seconds, "peak_mib": usage.peak_mib})
        memory = {"anonymous_mib": one.anonymous, "few_images_anonymous_mib": one.few_anonymous}
        rows.append({**own, "measured": "training process", "seconds": one.start_up, **memory})
    return rows

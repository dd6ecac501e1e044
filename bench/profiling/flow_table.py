"""The tables of bench.speed flow: one per question, on the screen, as Markdown and CSV."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from bench.cli.options import plain_console
from bench.profiling.flow import WHOLE_STEP
from bench.profiling.harness import Lap

_NOTHING = "--"


@dataclass(frozen=True)
class Entry:
    """The laps of a contestant, and of the others of its setting, a round each and in the same order."""

    contestant: str
    laps: Sequence[Lap]
    setting: Mapping[str, Sequence[Lap]]

    @property
    def milliseconds(self) -> list[float]:
        return [lap.milliseconds for lap in self.laps]

    def milliseconds_of(self, contestant: str) -> list[float]:
        """Of another of the setting, in the same rounds."""
        return [lap.milliseconds for lap in self.setting[contestant]]

    @property
    def first(self) -> list[float]:
        """Milliseconds of what all of the setting are compared with."""
        return self.milliseconds_of(next(iter(self.setting)))


@dataclass(frozen=True)
class Layout:
    """What is shown of a question: headings of a contestant's cells, with their text, and a line below the table."""

    title: str
    contestant: str
    columns: Mapping[str, Callable[[Entry], str]]
    note: str


def entries(laps: Sequence[Lap]) -> list[tuple[str, Entry]]:
    """The contestants of every setting, each with its setting's name."""
    settings: dict[str, dict[str, list[Lap]]] = {}
    for lap in laps:
        settings.setdefault(lap.setting, {}).setdefault(lap.contestant, []).append(lap)
    return [
        (setting, Entry(contestant, own, contestants))
        for setting, contestants in settings.items()
        for contestant, own in contestants.items()
    ]


def _time(entry: Entry) -> str:
    return _with_quartiles(entry.milliseconds, "{:.2f}")


def _ratio(entry: Entry) -> str:
    if entry.contestant == WHOLE_STEP:
        return _NOTHING
    quotients = [own / first for own, first in zip(entry.milliseconds, entry.first, strict=True)]
    return _with_quartiles(quotients, "{:.3f}")


def _share_of_step(entry: Entry) -> str:
    steps = entry.milliseconds_of(WHOLE_STEP)
    return _with_quartiles([100 * own / step for own, step in zip(entry.milliseconds, steps, strict=True)], "{:.2f}")


def _saved_of_step(entry: Entry) -> str:
    if entry.contestant == WHOLE_STEP:
        return _NOTHING
    rounds = zip(entry.milliseconds, entry.first, entry.milliseconds_of(WHOLE_STEP), strict=True)
    return _with_quartiles([100 * (first - own) / step for own, first, step in rounds], "{:.2f}")


def _ahead(entry: Entry) -> str:
    return _median([lap.ahead for lap in entry.laps], "{:.2f}")


def _back(entry: Entry) -> str:
    return _median([lap.back for lap in entry.laps], "{:.2f}")


def _evaluations_ahead(entry: Entry) -> str:
    return _median([lap.evaluations_ahead for lap in entry.laps], "{:.0f}")


def _evaluations_back(entry: Entry) -> str:
    return _median([lap.evaluations_back for lap in entry.laps], "{:.0f}")


def _peak(entry: Entry) -> str:
    return _median([lap.peak_mib for lap in entry.laps], "{:.1f}")


def _median(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(np.median(known)) if known else _NOTHING


def _with_quartiles(values: Sequence[float], form: str) -> str:
    """The median, and in brackets the first and third quartile."""
    low, middle, high = (form.format(value) for value in np.percentile(values, [25, 50, 75]))
    return f"{middle} ({low} – {high})"


LAYOUTS: Mapping[str, Layout] = {
    "step": Layout(
        "A training step",
        "method",
        {"time, ms": _time, "× EW": _ratio, "field evaluations": _evaluations_ahead},
        "ResNet-18, four linear heads, images of noise, optimizers included. NORMAL is meant to stay within 1.25 × EW.",
    ),
    "tasks": Layout(
        "The flow by the number of tasks",
        "tasks",
        {"time, ms": _time, "× m = 1": _ratio, "field evaluations": _evaluations_ahead},
        "Ahead and back, without encoder and heads; the furthest of m evenly spread positions is always the same. One "
        "trajectory for 40 tasks is meant to stay within 1.3 × that for one, with as many evaluations.",
    ),
    "inputs": Layout(
        "Four inputs, one per task",
        "solved",
        {
            "time, ms": _time,
            "× one after another": _ratio,
            "% of a step": _share_of_step,
            "saved, % of a step": _saved_of_step,
            "field evaluations": _evaluations_ahead,
        },
        "Ahead and back, without encoder and heads; together, an evaluation has the vectors of all four inputs. The "
        "training step is NORMAL's, which solves together where that is little work, and under EW.",
    ),
    "solvers": Layout(
        "The flow by solver",
        "solver, gradient",
        {
            "ahead, ms": _ahead,
            "back, ms": _back,
            "time, ms": _time,
            "× euler, backprop": _ratio,
            "field evaluations ahead": _evaluations_ahead,
            "back": _evaluations_back,
            "peak, MiB": _peak,
        },
        "Four tasks, without encoder and heads. Peak memory is what a turn took, on accelerators only.",
    ),
}


def cells(question: str, laps: Sequence[Lap]) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for every contestant."""
    layout = LAYOUTS[question]
    head = ["setting", layout.contestant, *layout.columns]
    rows = [
        [setting, entry.contestant, *(text(entry) for text in layout.columns.values())]
        for setting, entry in entries(laps)
    ]
    return head, rows


def show(question: str, laps: Sequence[Lap]) -> None:
    """Prints the table of one question."""
    layout = LAYOUTS[question]
    head, rows = cells(question, laps)
    table = Table(box=None, pad_edge=False, title=layout.title, title_justify="left")
    for column, heading in enumerate(head):
        table.add_column(heading, justify="left" if column < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = plain_console()
    console.print(table)
    console.print("", layout.note, "", sep="\n")


def write(laps: Sequence[Lap], circumstances: str, folder: Path) -> None:
    """flow.md, the tables; flow.csv, every lap."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [circumstances]
    for question in dict.fromkeys(lap.question for lap in laps):
        layout = LAYOUTS[question]
        head, rows = cells(question, [lap for lap in laps if lap.question == question])
        lines = [head, [":--", ":--", *["--:"] * (len(head) - 2)], *rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts += [f"## {layout.title}", table, layout.note]
    (folder / "flow.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    with (folder / "flow.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(Lap))
        writer.writerows(dataclasses.astuple(lap) for lap in laps)

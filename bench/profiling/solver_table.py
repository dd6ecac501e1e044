"""The table of bench.speed solvers: a row per weighting and number of tasks, on the screen, as Markdown and CSV."""

from __future__ import annotations

import csv
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from bench.cli.options import plain_console
from bench.profiling.solvers import EVEN, OURS, Timing
from methods import WEIGHTINGS
from methods.adapters.bridge import INSTALL

NOTE = (
    "Milliseconds a step, median over all Gramians; a ratio above 1 means that ours is faster. Residuals by the "
    "method's own criterion, the worst on gradients of like norms | the worst of all, with norms spread over 10^±3: "
    "MGDA KKT gap; Nash-MTL max |a(Ga) − 1| up to scale; IMTL spread of projections; CAGrad gap of its dual; UPGrad "
    "conflict. LibMTL's steps include m backward passes through a product of vectors."
)
_NOTHING = "--"


def cells(timings: Sequence[Timing], missing: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for every weighting and number of tasks."""
    peers = list(missing)
    head = ["weighting", "m", "ours, ms"]
    for peer in peers:
        head += [f"{peer}: not installed ({INSTALL})"] if missing[peer] else [f"{peer}, ms", "ratio"]
    head += ["residual: ours", *(peer for peer in peers if not missing[peer])]
    rows = []
    for name in WEIGHTINGS:
        for m in dict.fromkeys(timing.tasks for timing in timings):
            here = [timing for timing in timings if (timing.weighting, timing.tasks) == (name, m)]
            ours = _median(here, OURS)
            row = [WEIGHTINGS[name].label, str(m), _milliseconds(ours)]
            for peer in peers:
                row += [_NOTHING] if missing[peer] else _beside(here, peer, ours)
            rows.append([*row, *(_residual(here, who) for who in (OURS, *peers) if not missing.get(who))])
    return head, rows


def _notes(timings: Sequence[Timing], missing: Mapping[str, str]) -> list[str]:
    """Why a peer is missing, and what peers raised, each once."""
    raised = (
        f"{timing.contestant}, {WEIGHTINGS[timing.weighting].label}, m = {timing.tasks}: {timing.fault}"
        for timing in timings
        if timing.fault
    )
    return [*(why for why in missing.values() if why), *dict.fromkeys(raised)]


def show(timings: Sequence[Timing], missing: Mapping[str, str]) -> None:
    """Prints the table."""
    head, rows = cells(timings, missing)
    table = Table(box=None, pad_edge=False)
    for column, title in enumerate(head):
        table.add_column(
            title, justify="left" if column == 0 else "right", no_wrap=not title.startswith(tuple(missing))
        )
    for row in rows:
        table.add_row(*row)
    console = plain_console()
    console.print(table)
    console.print("", NOTE, *_notes(timings, missing), sep="\n")


def write(timings: Sequence[Timing], missing: Mapping[str, str], folder: Path) -> None:
    """solvers.md, the table; solvers.csv, every Gramian."""
    folder.mkdir(parents=True, exist_ok=True)
    head, rows = cells(timings, missing)
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    text = "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
    notes = [NOTE.replace(" | ", " / "), *_notes(timings, missing)]
    (folder / "solvers.md").write_text("\n\n".join([text, *notes]) + "\n", encoding="utf-8")
    with (folder / "solvers.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(Timing))
        writer.writerows(dataclasses.astuple(timing) for timing in timings)


def _median(here: Sequence[Timing], contestant: str) -> float | None:
    times = [t.milliseconds for t in here if t.contestant == contestant and t.milliseconds is not None]
    return statistics.median(times) if times else None


def _beside(here: Sequence[Timing], peer: str, ours: float | None) -> list[str]:
    theirs = _median(here, peer)
    if theirs is None or ours is None:
        return ["failed" if any(t.contestant == peer and t.fault for t in here) else _NOTHING, _NOTHING]
    return [_milliseconds(theirs), f"{theirs / ours:.1f}"]


def _milliseconds(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.3f}"


def _residual(here: Sequence[Timing], contestant: str) -> str:
    left = [(t.kind, t.residual) for t in here if t.contestant == contestant and t.residual is not None]
    if not left:
        return _NOTHING
    even = max(value for kind, value in left if kind == EVEN)
    return f"{even:.0e} | {max(value for _, value in left):.0e}"

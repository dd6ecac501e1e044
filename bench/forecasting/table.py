"""A forecast on the screen, and as JSON for scripts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.forecasting.forecast import Forecast, Line

HEAD = ("data", "", "methods", "to do", "kept", "epochs", "steps/epoch", "steps", "s/step", "how known", "time")
MEMORY_HEAD = ("data", "methods", "parameters", "Adam", "task gradients", "peak", "checkpoint")
_LEFT = {"data", "", "methods", "how known"}
_NOTHING = "--"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def show(forecast: Forecast, console: Console) -> None:
    """Prints what will run, how long it takes, and what room it needs."""
    console.print(_table(HEAD, [_cells(line) for line in forecast.lines]))
    console.print("", *_notes(forecast), "", total(forecast), "", *_room(forecast), sep="\n")
    with_pace = [line for line in forecast.lines if line.pace is not None and line.to_do]
    if with_pace:
        console.print(_table(MEMORY_HEAD, [_memory_cells(line) for line in with_pace]))
        console.print(_memory_note(forecast), *_warnings(forecast), sep="\n")


def as_json(forecast: Forecast) -> str:
    """All of it, in seconds, bytes and MiB."""
    return json.dumps(dataclasses.asdict(forecast), indent=1)


def total(forecast: Forecast) -> str:
    """What all of it comes to, in one line."""
    to_do, kept = (sum(counts) for counts in zip(*((x.to_do, x.kept) for x in forecast.lines), strict=True))
    if not to_do:
        return f"Nothing to do: all {kept} runs are kept."
    steps, sum_up = sum(line.steps for line in forecast.lines), "about"
    if any(line.to_do and line.seconds is None for line in forecast.lines):
        sum_up = "at least"
    jobs = f"{forecast.jobs} job{'s' if forecast.jobs > 1 else ''}"
    text = f"{to_do} runs, {steps:,} steps, {sum_up} {duration(forecast.seconds)} on {forecast.device} with {jobs}"
    here = sum(line.to_do for line in forecast.lines if line.here)
    if here < to_do:
        some = f"{here} of them on data that is here, {sum_up} {duration(forecast.seconds_here)}"
        text += f"; {some if here else 'none of them on data that is here'}"
    return text + (f"; {kept} more are kept" if kept else "") + "."


def duration(seconds: float) -> str:
    """In the unit that suits."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    hours = f"{seconds / _HOUR:.1f} hours" if seconds < 100 * _HOUR else f"{seconds / _HOUR:,.0f} hours"
    return hours if seconds < 2 * _DAY else f"{hours} ({seconds / _DAY:,.0f} days)"


def size(count: float) -> str:
    """Bytes in the unit that suits."""
    for unit, amount in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= amount:
            return f"{count / amount:.1f} {unit}"
    return "< 1 MiB"


def _cells(line: Line) -> list[str]:
    seconds, known = _NOTHING, "kept" if not line.to_do else line.fault or "not timed"
    if line.pace is not None and line.to_do:
        seconds, known = f"{line.pace.step:.3g}", line.pace.known
    whole = duration(line.seconds * line.to_do) if line.seconds is not None and line.to_do else _NOTHING
    counts = [f"{count:,}" for count in (line.to_do, line.kept, line.epochs, line.steps_per_epoch, line.steps)]
    here = "here" if line.here else "not here"
    return [line.data, here, ", ".join(line.methods), *counts, seconds, known, whole]


def _notes(forecast: Forecast) -> list[str]:
    """How times are known, and what they leave out."""
    measured = [line for line in forecast.lines if line.pace is not None and line.to_do]
    notes = []
    shared = {(line.pace.timed, line.methods): None for line in measured if line.pace and len(line.methods) > 1}
    if shared:
        told = "; ".join(f"{timed} for {', '.join(methods)}" for timed, methods in shared)
        notes.append(f"Methods that need the same passes share a measurement: {told}. Their solvers take milliseconds.")
    if any(line.pace and line.pace.known.startswith("scaled") for line in measured):
        notes.append(
            "Scaled: a step of the whole batch takes too long for --budget, or too much memory; it is taken to grow "
            "with the number of images from smaller ones."
        )
    threads = f"{forecast.threads} thread{'s' if forecast.threads > 1 else ''}"
    if measured:
        notes.append(
            f"Time: of all runs of a row, one after another. Steps were timed on noise, one run alone with {threads}. "
            "Batches and evaluation are counted; making or decoding data, checkpoints and starting processes are not."
        )
    if measured and forecast.jobs > 1:
        notes.append(f"{forecast.jobs} runs at a time share the machine: each may be slower than it is alone.")
    return [*notes, *forecast.remarks]


def _room(forecast: Forecast) -> list[str]:
    if not any(line.to_do for line in forecast.lines):
        return []
    arrays = ", ".join(f"{name} {size(count)}" for name, count in forecast.arrays.items())
    checkpoints = [line.pace.checkpoint for line in forecast.lines if line.pace and line.to_do]
    largest = max(checkpoints, default=0)
    return [
        f"Disk, computed: decoded files {arrays}, beside the files themselves; curves {size(forecast.tables)} in all; "
        f"while runs go on, checkpoints of up to {size(2 * largest * forecast.jobs)} (a new one beside the old one).",
        "",
    ]


def _memory_cells(line: Line) -> list[str]:
    assert line.pace is not None, "only lines that were timed have memory to show"
    number = sum(line.pace.parameters)
    peak = _NOTHING if line.pace.peak_mib is None else f"{size(line.pace.peak_mib * 2**20)}, {line.pace.known}"
    # Gradients and two moments, beside the parameters themselves.
    adam, jacobian = size(16 * number), size(line.jacobian) if line.jacobian else _NOTHING
    return [line.data, ", ".join(line.methods), f"{number:,}", adam, jacobian, peak, size(line.pace.checkpoint)]


def _memory_note(forecast: Forecast) -> str:
    whose = "the whole process" if forecast.device == "cpu" else "tensors on the accelerator"
    return (
        "Memory of one run. Computed: Adam (parameters, gradients, two moments), and a gradient for each task at most. "
        f"Peak: of {whose}, with data left out."
    )


def _warnings(forecast: Forecast) -> list[str]:
    peaks = [line.pace.peak_mib for line in forecast.lines if line.pace and line.pace.peak_mib and line.to_do]
    if not peaks or forecast.free_mib is None:
        return []
    jobs = min(forecast.jobs, sum(line.to_do for line in forecast.lines))
    needed = jobs * max(peaks)
    if needed <= forecast.free_mib:
        return []
    advice = "use fewer --jobs, or " if jobs > 1 else ""
    whole, free = size(needed * 2**20), size(forecast.free_mib * 2**20)
    return [
        f"Too much: {jobs} at a time need up to {whole}, and {free} are free; {advice}a smaller --set "
        "train.batch_size=N."
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in head:
        table.add_column(title, justify="left" if title in _LEFT else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table

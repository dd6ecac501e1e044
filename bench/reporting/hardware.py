"""The page on a check of an accelerator: what was checked, what failed, what was not run, and how fast it is."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.records.files import atomic_write_text
from bench.records.hardware import PAGE, Check, HardwareRecord, Outcome, Speed, hardware_folder
from bench.reporting.render import gpu_page
from bench.reporting.tables.table import MISSING, Cell, Column, Head, Row, Table

_OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "noted", "not run")
_HOW = (
    "Distances are relative, the largest of the group: losses of the first step, losses of all three steps, the shared "
    "gradient of the first step, and all parameters after the third step. docs/gpu.md says what is allowed"
)


def write_hardware_page(root: Path, record: HardwareRecord) -> Path:
    """Writes `<machine>/README.md` beside the record and returns its path."""
    return atomic_write_text(hardware_folder(root, record.machine) / PAGE, hardware_page(record))


def hardware_page(record: HardwareRecord) -> str:
    """The page in Markdown."""
    return gpu_page(
        record=record,
        circumstances=_circumstances(record),
        verdict=_verdict(record),
        overview=_overview(record.checks),
        lists=_lists(record.checks),
        speeds=_speeds(record.speeds) if record.speeds else None,
    )


def summary_lines(record: HardwareRecord) -> list[str]:
    """For a terminal: what failed, and how many checks ended how."""
    failed = [f"failed: {_title(check)}: {check.detail}" for check in record.failed]
    return [*failed, _verdict(record)]


def _verdict(record: HardwareRecord) -> str:
    counts = Counter(check.outcome for check in record.checks)
    parts = ", ".join(f"{counts[outcome]} {outcome}" for outcome in _OUTCOMES)
    return f"{'Failed' if record.failed else 'Passed'}: of {len(record.checks)} checks {parts}."


def _circumstances(record: HardwareRecord) -> str:
    known = record.environment
    chip = known.get("accelerator") or known.get("cpu") or "an unknown chip"
    names = {"driver": "driver", "cuda": "CUDA", "hip": "HIP", "cudnn": "cuDNN", "torch": "PyTorch"}
    versions = [f"{name} {known[key]}" for key, name in names.items() if known.get(key)]
    took = sum(record.seconds.values())
    return (
        f"{chip} ({record.device}), {', '.join(versions)}. Checked on {record.date} in {took:.0f} s, beside "
        f"{known.get('cpu') or 'an unknown processor'}, commit {known.get('commit') or 'unknown'}."
    )


def _title(check: Check) -> str:
    return ", ".join(filter(None, (check.part, check.group, check.subject)))


def _overview(checks: Sequence[Check]) -> Table:
    """A row for each part and group."""
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        groups.setdefault((check.part, check.group), []).append(check)
    rows = [
        Row(Head(", ".join(filter(None, key))), (*_counts(found), Cell(_largest(found))))
        for key, found in groups.items()
    ]
    columns = (*(Column(Head(outcome)) for outcome in _OUTCOMES), Column(Head("largest measured"), "left"))
    return Table("checks", "", f"Number of checks by how they ended. {_HOW}.", "What", (), columns, tuple(rows))


def _counts(checks: Iterable[Check]) -> Iterator[Cell]:
    counts = Counter(check.outcome for check in checks)
    return (Cell(str(counts[outcome]) if counts[outcome] else MISSING) for outcome in _OUTCOMES)


def _largest(checks: Iterable[Check]) -> str:
    largest: dict[str, float] = {}
    for name, value in (pair for check in checks for pair in check.measured.items()):
        if not value <= largest.get(name, -1.0):  # NaN is the largest
            largest[name] = value
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in largest.items()) or MISSING


def _lists(checks: Sequence[Check]) -> dict[str, Table]:
    """The checks that have not passed, by outcome."""
    titles: dict[Outcome, str] = {"failed": "Failed", "noted": "Noted", "not run": "Not run"}
    return {
        title: _list(title, [check for check in checks if check.outcome == outcome])
        for outcome, title in titles.items()
        if any(check.outcome == outcome for check in checks)
    }


def _list(title: str, checks: Sequence[Check]) -> Table:
    """A row for each part, group and reason."""
    subjects: dict[tuple[str, str, str], list[str]] = {}
    for check in checks:
        subjects.setdefault((check.part, check.group, check.detail), []).append(check.subject)
    rows = [
        Row(Head(", ".join(filter(None, (part, group)))), (Cell(", ".join(filter(None, names))), Cell(detail)))
        for (part, group, detail), names in subjects.items()
    ]
    columns = (Column(Head("which"), "left"), Column(Head("why"), "left"))
    return Table(title.lower().replace(" ", "-"), "", f"{title}, with reasons.", "What", (), columns, tuple(rows))


def _speeds(speeds: Sequence[Speed]) -> Table:
    """A row for each workload, method and setting."""
    heads = ("method", "setting", "steps", "median (ms)", "images/s", "peak (MiB)")
    columns = tuple(Column(Head(head), "left" if place < 2 else "right") for place, head in enumerate(heads))
    caption = "Training steps with the optimizer, batches of the recipes' sizes: the median after the warm-up."
    rows = tuple(Row(Head(f"{speed.workload}, {speed.label}"), tuple(_speed(speed))) for speed in speeds)
    return Table("speed", "", caption, "Workload", (), columns, rows)


def _speed(speed: Speed) -> Iterator[Cell]:
    median = statistics.median(speed.seconds)
    yield Cell(speed.method)
    yield Cell(speed.setting or "fp32")
    yield Cell(str(len(speed.seconds)))
    yield Cell(f"{1e3 * median:,.2f}")
    yield Cell(f"{speed.images / median:,.0f}" if median else MISSING)
    yield Cell(MISSING if speed.peak_mib is None else f"{speed.peak_mib:,.0f}")

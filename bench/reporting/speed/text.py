"""Numbers, workloads and circumstances of timed steps as text."""

from __future__ import annotations

from collections.abc import Iterable

from bench.records.speed import SpeedRecord, WorkloadRecord
from bench.reporting.labels import show_settings
from bench.reporting.speed.numbers import Spread
from bench.reporting.tables.table import MISSING


def three_digits(value: float) -> str:
    """About three significant digits: 1.23, 12.3, 123, 1,234."""
    return f"{value:,.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    return 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0


def with_quartiles(times: Spread | None) -> str:
    """The median and, of several rounds, the quartiles with as many decimals."""
    if times is None:
        return MISSING
    low, middle, high = (f"{value:,.{_decimals(times.median)}f}" for value in (times.low, times.median, times.high))
    return middle if times.rounds == 1 else f"{middle} ({low}–{high})"


def just_median(numbers: Spread | None) -> str:
    """The median, to three significant digits."""
    return MISSING if numbers is None else three_digits(numbers.median)


def percent(share: float | None) -> str:
    """A share as a percentage without its sign: 0.123 is 12.3."""
    return MISSING if share is None else f"{100 * share + 0.0:.1f}"


def mib(amount: float | None) -> str:
    """To the MiB, or to a tenth below ten."""
    return MISSING if amount is None else f"{amount:,.{1 if abs(amount) < 9.95 else 0}f}"


def title(workload: WorkloadRecord) -> str:
    """Key and label: "office, four tasks with an input each"."""
    return f"{workload.key}, {workload.label}" if workload.label not in ("", workload.key) else workload.key


def parameters(number: int) -> str:
    """11.2 M, 512 k, 12."""
    for unit, factor in (("M", 10**6), ("k", 10**3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}" if number < 999.5 * factor else f"{number / factor:,.0f} {unit}"
    return str(number)


def size(workload: WorkloadRecord) -> int:
    """The number that varies in a series."""
    return workload.parameters if workload.series == "parameters" else workload.tasks


def size_text(workload: WorkloadRecord) -> str:
    """ "8 tasks" or "11.2 M parameters"."""
    if workload.series == "parameters":
        return f"{parameters(workload.parameters)} parameters"
    return f"{workload.tasks} task{'s' if workload.tasks != 1 else ''}"


def images(workload: WorkloadRecord) -> str:
    """ "4 × 8 images of 96 × 96": inputs, batch, height and width."""
    height, width = workload.image_size
    inputs = f"{workload.inputs} × " if workload.inputs != 1 else ""
    return f"{inputs}{workload.batch_size} images of {height} × {width}"


def circumstances(record: SpeedRecord) -> str:
    """Where and how it was measured, in one line."""
    known = record.environment
    where = f"{known['cpu']} ({record.device})" if record.device == "cpu" and known.get("cpu") else record.device
    parts = [f"{where}, {_count(record.threads, 'thread')}, PyTorch {known.get('torch', 'of an unknown version')}"]
    parts.append(f"{_count(record.rounds, 'round')}, size {record.size!r}")
    parts.append("a step has " + "; ".join(_steps(record.workloads)) if record.workloads else "no images")
    parts.append(f"settings other than the defaults: {show_settings(record.settings) or 'none'}")
    parts.append(f"commit {known.get('commit') or 'unknown'}")
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _steps(workloads: Iterable[WorkloadRecord]) -> list[str]:
    """The images of a step for each workload; workloads with the same images share an entry."""
    named: dict[str, list[str]] = {}
    for workload in workloads:
        name = f"by {'tasks' if workload.series == 'tasks' else 'parameters'}" if workload.series else workload.key
        named.setdefault(images(workload), []).append(name)
    return [f"{what} ({', '.join(dict.fromkeys(names))})" for what, names in named.items()]

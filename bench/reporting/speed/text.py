"""How timings of steps are put into words: numbers, shapes, and the circumstances under which they were taken."""

from __future__ import annotations

from collections.abc import Iterable

from bench.records.speed import ShapeRecord, SpeedRecord
from bench.reporting.labels import show_settings
from bench.reporting.speed.numbers import Spread
from bench.reporting.tables.table import MISSING


def three_digits(value: float) -> str:
    """About three digits that count: 1.23, 12.3, 123, 1,234."""
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
    """Three digits of it."""
    return MISSING if numbers is None else three_digits(numbers.median)


def percent(share: float | None) -> str:
    """A share as a percentage without its sign: 0.123 is 12.3."""
    return MISSING if share is None else f"{100 * share + 0.0:.1f}"


def mib(amount: float | None) -> str:
    """To the MiB, or to a tenth where there are few."""
    return MISSING if amount is None else f"{amount:,.{1 if abs(amount) < 9.95 else 0}f}"


def title(shape: ShapeRecord) -> str:
    """Key and label: "office, four tasks with an input each"."""
    return f"{shape.key}, {shape.label}" if shape.label not in ("", shape.key) else shape.key


def parameters(number: int) -> str:
    """11.2 M, 512 k, 12."""
    for unit, factor in (("M", 10**6), ("k", 10**3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}" if number < 999.5 * factor else f"{number / factor:,.0f} {unit}"
    return str(number)


def size(shape: ShapeRecord) -> int:
    """What the shapes of a series differ in."""
    return shape.parameters if shape.series == "parameters" else shape.tasks


def size_text(shape: ShapeRecord) -> str:
    """ "8 tasks" or "11.2 M parameters"."""
    if shape.series == "parameters":
        return f"{parameters(shape.parameters)} parameters"
    return f"{shape.tasks} task{'s' if shape.tasks != 1 else ''}"


def images(shape: ShapeRecord) -> str:
    """ "4 × 8 images of 96 × 96": inputs, batch, height and width."""
    height, width = shape.image_size
    inputs = f"{shape.inputs} × " if shape.inputs != 1 else ""
    return f"{inputs}{shape.batch_size} images of {height} × {width}"


def circumstances(record: SpeedRecord) -> str:
    """Where and how it was measured, in one line."""
    known = record.environment
    where = f"{known['cpu']} ({record.device})" if record.device == "cpu" and known.get("cpu") else record.device
    parts = [f"{where}, {_count(record.threads, 'thread')}, PyTorch {known.get('torch', 'of an unknown version')}"]
    parts.append(f"{_count(record.rounds, 'round')}, size {record.size!r}")
    parts.append("a step has " + "; ".join(_steps(record.shapes)) if record.shapes else "no shapes")
    parts.append(f"settings other than the defaults: {show_settings(record.settings) or 'none'}")
    parts.append(f"commit {known.get('commit') or 'unknown'}")
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _steps(shapes: Iterable[ShapeRecord]) -> list[str]:
    """What a step has for each shape; shapes of a series that have the same of it are told once."""
    told: dict[str, list[str]] = {}
    for shape in shapes:
        name = f"by {'tasks' if shape.series == 'tasks' else 'parameters'}" if shape.series else shape.key
        told.setdefault(images(shape), []).append(name)
    return [f"{what} ({', '.join(dict.fromkeys(names))})" for what, names in told.items()]

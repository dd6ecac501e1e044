"""Estimates of steps beside those that `bench.gpu_check` measured on the same accelerator: nothing is timed here."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.forecasting.counting import count_step
from bench.forecasting.estimate import ASSUMED, SLOWEST
from bench.forecasting.peak_rates import HARDWARE, Hardware
from bench.forecasting.roofline import reached
from bench.profiling.tables import Page
from bench.profiling.workloads import Size, workloads
from bench.records.hardware import HardwareRecord, Speed
from bench.reporting.tables.table import MISSING, Cell, Column, Head, Row, Table
from bench.spec.lookup import UnknownName
from bench.spec.shown import shown

_CAPTION = "Training steps in fp32, measured by bench.gpu_check and estimated from counted work"
_HEADS = ("method", "measured, ms", "estimated, ms", "estimated / measured", "slowest / measured", "memory / measured")


@dataclass(frozen=True)
class Beside:
    """A measured step and its estimates: seconds, as the median, as assumed, and by the slowest assumptions.

    memory: estimated over measured; None if it wasn't measured.
    """

    workload: str
    method: str
    measured: float
    estimated: float
    slowest: float
    memory: float | None


def estimates_of(record: HardwareRecord, show: Callable[[str], None] = lambda name: None) -> list[Beside]:
    """Steps without settings on noise of the sizes of real data sets. show(name) is called before each.

    Raises:
        UnknownName: the accelerator has no published rates here.
    """
    hardware = _hardware(record)
    size: Size = "cpu" if record.settings.get("size") == "cpu" else "paper"
    known, found = workloads(size), []
    for speed in record.speeds:
        if _is_countable(speed):
            show(f"{speed.workload}, {speed.method}")
            workload = known[speed.workload]
            spec = workload.spec(speed.method)
            counts = count_step(spec, workload.image_size)
            assumed, slowest = (
                reached(hardware, efficiency, tf32=spec.settings.compute.tf32).total(counts)
                for efficiency in (ASSUMED, SLOWEST)
            )
            memory = counts.peak_bytes / 2**20 / speed.peak_mib if speed.peak_mib else None
            measured = statistics.median(speed.seconds)
            found.append(Beside(speed.workload, speed.method, measured, assumed, slowest, memory))
    return found


def _is_countable(speed: Speed) -> bool:
    return not speed.setting and speed.workload in workloads("paper")


def _hardware(record: HardwareRecord) -> Hardware:
    """Of models that are made with different memory, the one whose memory is nearest."""
    model, mib = str(record.environment.get("accelerator", record.device)), record.environment.get("memory_mib")
    found = [hardware for name, hardware in HARDWARE.items() if name.removesuffix(" 40GB") in model]
    if not found or not isinstance(mib, int):
        raise UnknownName(f"Expected the check of one of {', '.join(HARDWARE)}, found that of {shown(model)}.")
    return min(found, key=lambda hardware: abs(hardware.memory / 2**20 - mib))


def beside_page(record: HardwareRecord, found: Sequence[Beside]) -> Page:
    """A row for each step, and what the record has besides."""
    rows = tuple(Row(Head(step.workload), tuple(map(Cell, _cells(step)))) for step in found)
    columns = tuple(Column(Head(head), "left" if head == "method" else "right") for head in _HEADS)
    left_out = [speed for speed in record.speeds if not _is_countable(speed)]
    names = dict.fromkeys(f"{speed.workload}, {speed.setting or 'fp32'}" for speed in left_out)
    return Page(
        (Table("beside", "tab:beside", f"{_CAPTION}, on {record.machine}", "workload", (), columns, rows),),
        (f"Left out: {'; '.join(names)}.",) if names else (),
        [vars(step) for step in found],
    )


def _cells(step: Beside) -> list[str]:
    times = [f"{1e3 * seconds:,.1f}" for seconds in (step.measured, step.estimated)]
    ratios = [f"{seconds / step.measured:.2f}" for seconds in (step.estimated, step.slowest)]
    return [step.method, *times, *ratios, MISSING if step.memory is None else f"{step.memory:.2f}"]

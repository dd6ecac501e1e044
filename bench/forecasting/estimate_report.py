"""An estimate as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.forecasting.estimate import Estimate, EstimatedGroup, LayerCost
from bench.forecasting.peak_rates import Arithmetic, Hardware
from bench.forecasting.probe import StepCost
from bench.forecasting.report import duration, missing_note, size, summary_of
from bench.forecasting.roofline import Efficiency
from bench.reporting.render import aligned
from bench.reporting.tables.table import MISSING, Cell, Column, Head, Row, Table

HEADS = ("runs", "done", "steps", "GFLOP/step", "GB/step", "kernels/step", "s/step", "time per run", "range", "total")
_TAIL = ("peak memory", "methods")
_LAYER_HEADS = ("GFLOP/step", "GB/step", "kernels/step", "ms/step", "% of time")
_GIGA, _TERA = 1e9, 1e12
_ARITHMETIC: Mapping[Arithmetic, str] = {"fp32": "fp32", "tf32": "TF32", "bf16": "bf16"}


def as_text(estimate: Estimate, *, layers: bool = False) -> str:
    """A table with a row per group of runs, then totals, assumptions and notes; layers: also a table for each group."""
    hardware = estimate.hardware
    caption = f"On one {hardware.label}, which is not here: estimated, nothing was timed"
    rows = tuple(Row(Head(one.group.data), tuple(map(Cell, _cells(one)))) for one in estimate.groups)
    heads = (*HEADS, *_TAIL)
    columns = tuple(Column(Head(head), "left" if head == "methods" else "right") for head in heads)
    tables = [Table("plan", "", caption, "data", (), columns, rows)]
    tables += [_layers(one) for one in estimate.groups if layers and one.layers]
    return "\n".join([*map(aligned, tables), _summary(estimate), *_notes(estimate)])


def _cells(one: EstimatedGroup) -> list[str]:
    group = one.group
    counts = [f"{count:,}" for count in (group.pending, group.done, group.steps)]
    cost, methods = group.cost, ", ".join(group.methods)
    if isinstance(cost, str) or group.seconds is None:
        return [*counts, *[MISSING] * (len(HEADS) - len(counts) + 1), f"{methods} ({cost})"]
    work = [_significant(sum(getattr(layer, name) for layer in one.layers) / _GIGA) for name in ("flops", "bytes")]
    launches = f"{sum(layer.launches for layer in one.layers):,.0f}"
    times = [f"{cost.step:.3g}", duration(group.seconds), _range(one.fastest, one.slowest)]
    total = duration(group.seconds * group.pending)
    peak = MISSING if cost.peak_mib is None else size(cost.peak_mib * 2**20)
    return [*counts, *work, launches, *times, total, peak, methods]


def _layers(one: EstimatedGroup) -> Table:
    caption = f"Layers of a step: {one.group.data}, {', '.join(one.group.methods)}, forward and backward, all tasks"
    total = sum(layer.seconds for layer in one.layers)
    rows = tuple(Row(Head(layer.layer), tuple(map(Cell, _layer_cells(layer, total)))) for layer in one.layers)
    return Table("layers", "", caption, "layer", (), tuple(Column(Head(head)) for head in _LAYER_HEADS), rows)


def _layer_cells(layer: LayerCost, total: float) -> list[str]:
    work = [_significant(layer.flops / _GIGA), _significant(layer.bytes / _GIGA), f"{layer.launches:,.0f}"]
    return [*work, _significant(1e3 * layer.seconds), f"{100 * layer.seconds / total:.1f}"]


def _significant(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _range(fastest: float | None, slowest: float | None) -> str:
    return MISSING if fastest is None or slowest is None else f"{duration(fastest)} – {duration(slowest)}"


def _summary(estimate: Estimate) -> str:
    """Runs, time and disk of the whole request."""
    groups = estimate.groups
    total = sum(one.group.pending * (one.group.seconds or 0.0) for one in groups)
    fastest = sum(one.group.pending * (one.fastest or 0.0) for one in groups)
    slowest = sum(one.group.pending * (one.slowest or 0.0) for one in groups)
    in_words = f"{duration(total)} ({_range(fastest, slowest)})"
    return summary_of([one.group for one in groups], in_words, estimate.prepared_bytes)


def _notes(estimate: Estimate) -> list[str]:
    """What was assumed, what is left out, and what doesn't fit."""
    hardware = estimate.hardware
    products = estimate.arithmetic
    notes = [
        f"Assumed: {_assumed(estimate.assumed, hardware, products)}; set by hand, see docs/speed.md.",
        f"Range: from {_shares(estimate.fastest, products)}, to {_shares(estimate.slowest, products)}.",
        f"Peak rates: {hardware.source}. A multiplication and an addition count as two FLOP.",
        "Counted: training steps and evaluation, as the engine runs them, one run at a time. Left out: reading and "
        "augmenting images, solvers of weightings, metrics, checkpoints, start-up, and what CUDA graphs or compilation "
        "save.",
        "Data sets have their published sizes. Methods in a row share one cost.",
    ]
    notes += missing_note(estimate.missing)
    notes += estimate.remarks
    costs = [one.group.cost for one in estimate.groups if one.group.pending and isinstance(one.group.cost, StepCost)]
    needed = max((cost.peak_mib or 0.0 for cost in costs), default=0.0) * 2**20
    memory = f"tensors take up to {size(needed)}, {size(estimate.room)} of {size(hardware.memory)} are for them"
    if needed > estimate.room:
        notes.append(f"Not enough memory: {memory}; use --set train.accumulate=K or train.batch_size=N.")
    elif costs:
        notes.append(f"Memory: {memory}.")
    return notes


def _assumed(efficiency: Efficiency, hardware: Hardware, products: Sequence[Arithmetic]) -> str:
    shares = [
        f"{_share(efficiency, kind):.0%} of {hardware.operations[kind] / _TERA:g} TFLOPS in {_ARITHMETIC[kind]}"
        for kind in products
    ]
    memory = f"{efficiency.bandwidth:.0%} of {hardware.bandwidth / _GIGA:,.0f} GB/s"
    return ", ".join([*shares, memory, _launch(efficiency)])


def _shares(efficiency: Efficiency, products: Sequence[Arithmetic]) -> str:
    shares = [f"{_share(efficiency, kind):.0%} in {_ARITHMETIC[kind]}" for kind in products]
    return ", ".join([*shares, f"{efficiency.bandwidth:.0%} of the bandwidth", _launch(efficiency)])


def _share(efficiency: Efficiency, kind: Arithmetic) -> float:
    return efficiency.cores if kind == "fp32" else efficiency.tensor_cores


def _launch(efficiency: Efficiency) -> str:
    return f"{1e6 * efficiency.launch:g} µs per kernel"

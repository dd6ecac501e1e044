"""The table of what each method costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.records.record import Record
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.labels import seed_list
from bench.reporting.statistics import deviation, mean
from bench.reporting.tables.table import Cell, Column, Head, Row, Table

NO_EW = "no EW run to compare with"


@dataclass(frozen=True)
class Cost:
    """A column.

    read(run) -> number in `unit`, None if it was not measured.
    text(numbers of all seeds) -> the cell as printed.
    """

    head: str
    metric: str
    unit: str
    read: Callable[[Record], float | None]
    text: Callable[[Sequence[float]], str]


def _step_seconds(run: Record) -> float | None:
    return None if run.step_seconds is None else run.step_seconds.median


def _added_memory(run: Record) -> float | None:
    """What a run adds at its peak to an idle process. On an accelerator, only runs have tensors."""
    if run.peak_memory_mib is None:
        return None
    if run.idle_memory_mib is None:
        return None if _on_cpu(run) else run.peak_memory_mib
    return max(0.0, run.peak_memory_mib - run.idle_memory_mib)


def _process_memory(run: Record) -> float | None:
    """The peak of the whole process."""
    return run.peak_memory_mib if _on_cpu(run) else None


def _on_cpu(run: Record) -> bool:
    return run.environment.get("device", "cpu") == "cpu"


def _parameters(run: Record) -> float | None:
    counts = run.parameters
    return None if counts is None else counts.shared + counts.encoders + counts.heads + counts.positions


def _evaluations(run: Record) -> float | None:
    """Evaluations of the field of a flow per training step, forward and backward."""
    counts = run.field_evaluations
    return None if counts is None or not run.steps else (counts.forward + counts.backward) / run.steps


def _further_batches(run: Record) -> float | None:
    """Batches of a step; None for one, so that the column shows only if a method reads more."""
    return run.batches if run.batches > 1 else None


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.0f}" if low == high else f"{low:.0f}–{high:.0f}"


SECONDS = Cost("s/step", "step_seconds_median", "s", _step_seconds, lambda values: f"{mean(values):.4f}")
ADDED_MEMORY = Cost("Memory (MiB)", "added_memory", "MiB", _added_memory, lambda values: f"{mean(values):.0f}")
WHOLE_PROCESS = Cost("Process (MiB)", "process_memory", "MiB", _process_memory, lambda values: f"{mean(values):.0f}")
COSTS = (
    SECONDS,
    ADDED_MEMORY,
    WHOLE_PROCESS,
    Cost("Batches", "batches", "", _further_batches, _range),
    Cost("Parameters", "parameters", "", _parameters, lambda values: f"{mean(values):,.0f}"),
    Cost("Fallbacks", "solver_fallbacks", "", lambda run: run.solver_fallbacks, lambda values: f"{sum(values):.0f}"),
    Cost("Field", "field_evaluations", "", _evaluations, lambda values: f"{mean(values):.1f}"),
    Cost("Epoch", "selected_epoch", "", lambda run: run.selected.epoch if run.selected else None, _range),
    Cost("of", "epochs", "", lambda run: run.epochs, _range),
)
CAPTION = "Cost of a run, mean over seeds"
NOTE = "s/step: median of a training step, without evaluation. × EW: the same over that of EW. {memory}{others}"
MEMORY_NOTES = {
    ADDED_MEMORY: "Memory: what a run adds at its peak; on a CPU to its process with packages imported, before data. ",
    WHOLE_PROCESS: "Process: peak of the whole process on a CPU, most of it imported packages; some records don't say "
    "what the run adds. ",
}
NO_MEMORY_NOTE = "Peak memory: not measured. "
OTHERS_NOTE = (
    "Batches: read in a step, if more than one. "
    "Parameters: all trained. Fallbacks: steps of all seeds at which a weighting used its documented fallback. Field: "
    "evaluations of a flow's field per step, over all inputs, forward and adjoint. Epoch: selected, of those trained."
)


def cost_table(comparison: Comparison) -> Table:
    """Time, memory, parameters, fallbacks and selected epochs of every row."""
    measured = _columns(comparison)
    devices = _devices(comparison)
    heads = [Head(cost.head, (), {"metric": cost.metric, "unit": cost.unit}) for cost in measured]
    heads.insert(1, Head("× EW", (), {"metric": "step_seconds_relative", "unit": ""}))
    rows = []
    for variant in comparison.variants:
        cells = [_cell(cost, variant) for cost in measured]
        cells.insert(1, _relative_cell(variant, comparison.baseline))
        notes = (f"timed on {devices[variant.key]}",) if len(set(devices.values())) > 1 and variant.scored else ()
        identity = {"variant": variant.key, "method": variant.label}
        rows.append(Row(Head(variant.label, (*variant.notes, *notes), identity), tuple(cells)))
    memory = "".join(note for cost, note in MEMORY_NOTES.items() if cost in measured) or NO_MEMORY_NOTE
    note = NOTE.format(memory=memory, others=OTHERS_NOTE)
    caption, label = f"{comparison.label}. {CAPTION}.", f"tab:{comparison.folder.replace('/', '-')}-cost"
    columns = tuple(Column(head) for head in heads)
    return Table("cost", label, caption, "Method", (), columns, tuple(rows), note)


def _columns(comparison: Comparison) -> list[Cost]:
    """The costs that some run has; memory of whole processes only if that is all that some run has of memory."""
    known = [cost for cost in COSTS if cost is SECONDS or any(_known(cost, row) for row in comparison.variants)]
    return [cost for cost in known if cost is not WHOLE_PROCESS or not adds(comparison)]


def adds(comparison: Comparison) -> bool:
    """Whether all runs whose memory was measured say what they add to an idle process."""
    runs = [run for row in comparison.variants for run in row.scored.values()]
    return all(_added_memory(run) is not None for run in runs if run.peak_memory_mib is not None)


def _known(cost: Cost, variant: Variant) -> dict[int, float]:
    values = {seed: cost.read(run) for seed, run in variant.scored.items()}
    return {seed: float(value) for seed, value in values.items() if value is not None}


def _cell(cost: Cost, variant: Variant) -> Cell:
    values = _known(cost, variant)
    lacking = [seed for seed in variant.scored if seed not in values]
    if lacking:
        return Cell(notes=(f"not measured for {seed_list(lacking)}",) if values else ())
    if not values:
        return Cell()
    numbers = list(values.values())
    return Cell(cost.text(numbers), mean(numbers), deviation(numbers), tuple(values))


def _relative_cell(variant: Variant, baseline: Variant | None) -> Cell:
    """Seconds per step over those of EW on the same seeds."""
    own = _known(SECONDS, variant)
    theirs = _known(SECONDS, baseline) if baseline else {}
    if not own:
        return Cell()
    if any(not theirs.get(seed) for seed in own):
        return Cell(notes=(NO_EW,))
    ratios = [value / theirs[seed] for seed, value in own.items()]
    return Cell(f"{mean(ratios):.2f}", mean(ratios), deviation(ratios), tuple(own))


def _devices(comparison: Comparison) -> Mapping[str, str]:
    """What each row was timed on, as recorded."""
    names = {v.key: sorted({_device(run) for run in v.scored.values()}) for v in comparison.variants}
    return {key: ", ".join(found) for key, found in names.items() if found}


def _device(run: Record) -> str:
    device = str(run.environment.get("device", "an unknown device"))
    if device != "cpu":
        return device
    return f"{run.environment.get('cpu', device)} with threads={run.environment.get('threads', '?')}"

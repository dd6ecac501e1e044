"""What a request will cost on an accelerator that is not here, from counted work and published peak rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.engine.evaluate import EVALUATION_BATCH
from bench.engine.placement import DATA_SHARE
from bench.forecasting.counting import ELSEWHERE, OPTIMIZER, Counts, Kernel, count_evaluation, count_step
from bench.forecasting.forecast import Group, Run, group_of, runs_of, step_key
from bench.forecasting.peak_rates import Arithmetic, Hardware
from bench.forecasting.probe import StepCost
from bench.forecasting.roofline import Efficiency, Rates, reached
from bench.forecasting.sizes import prepared_bytes
from bench.spec.request import Request
from bench.spec.resolve import RunSpec
from datasets import DATASETS, find
from methods.adapters.bridge import PeerFailed, PeerUnavailable
from methods.contract import Diverged

# Set by hand. Steps on an H200, but one of GradDrop, and published training speeds of ResNet-50 on A100 and V100 lie
# between the fastest and the slowest (docs/speed.md).
ASSUMED = Efficiency(cores=0.7, tensor_cores=0.4, bandwidth=0.65, launch=8e-6)
FASTEST = Efficiency(cores=1.0, tensor_cores=0.7, bandwidth=0.9, launch=3e-6)
SLOWEST = Efficiency(cores=0.35, tensor_cores=0.15, bandwidth=0.25, launch=20e-6)
# The share of an accelerator's memory that tensors may fill: drivers and fragments take the rest.
_FOR_TENSORS = 0.9


@dataclass(frozen=True)
class LayerCost:
    """What a layer takes in a step, forward and backward, in all tasks.

    flops: multiplications and additions of its products.
    bytes: read and written.
    launches: of kernels.
    seconds: as assumed.
    """

    layer: str
    flops: float
    bytes: float
    launches: float
    seconds: float


@dataclass(frozen=True)
class EstimatedGroup:
    """Runs on one data set that cost the same.

    group: as in a forecast, with the time of a step as assumed, including its share of evaluation.
    fastest, slowest: seconds of one run under the other assumptions; None if a step could not be counted.
    layers: of a step, without evaluation.
    """

    group: Group
    fastest: float | None = None
    slowest: float | None = None
    layers: tuple[LayerCost, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """The whole request, one run at a time.

    assumed, fastest, slowest: the efficiencies.
    arithmetic: what products are computed in, in any of the runs.
    prepared_bytes: of decoded files, by data set.
    room: bytes for tensors on the accelerator, beside data that is moved there at once.
    missing: data sets that were not found.
    remarks: for the user, on the data.
    """

    hardware: Hardware
    assumed: Efficiency
    fastest: Efficiency
    slowest: Efficiency
    arithmetic: tuple[Arithmetic, ...]
    groups: tuple[EstimatedGroup, ...]
    prepared_bytes: Mapping[str, int]
    room: float
    missing: tuple[str, ...]
    remarks: tuple[str, ...]


def estimate(
    request: Request, data_root: Path, results: Path, hardware: Hardware, show: Callable[[str], None]
) -> Estimate:
    """Counts the work of every kind of step, and calls show(sentence) before each.

    Raises:
        PlanError: lists every error found.
        RecordError: a record of another seed can't be read.
    """
    runs, _, remarks = runs_of(request, data_root, results)
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(step_key(run.spec), []).append(run)
    groups = []
    for number, some in enumerate(members.values(), start=1):
        show(f"counting steps of {some[0].spec.info.label}, {some[0].spec.label}: {number} of {len(members)}")
        groups.append(estimated_group(some, hardware))
    names = dict.fromkeys(run.spec.data for run in runs)
    pending = [run for run in runs if not run.done]
    prepared = {run.spec.data: prepared_bytes(run.spec.data, run.size) for run in pending}
    data = min(DATA_SHARE * hardware.memory, max(prepared.values(), default=0))
    return Estimate(
        hardware=hardware,
        assumed=ASSUMED,
        fastest=FASTEST,
        slowest=SLOWEST,
        arithmetic=tuple(sorted(set().union(*(arithmetic(run.spec) for run in pending)))),
        groups=tuple(groups),
        prepared_bytes=prepared,
        room=_FOR_TENSORS * hardware.memory - data,
        missing=tuple(name for name in names if DATASETS[name].make is None and find(name, data_root) is None),
        remarks=tuple(remarks),
    )


def estimated_group(members: Sequence[Run], hardware: Hardware) -> EstimatedGroup:
    """Runs with one cost of a step, of which the first is counted."""
    run = members[0]
    try:
        step, evaluation = count_step(run.spec, run.size.image_size), count_evaluation(run.spec, run.size.image_size)
    # Whatever torch or a weighting says of numbers that the meta device doesn't have.
    except (RuntimeError, TypeError, ValueError, AssertionError, Diverged, PeerFailed, PeerUnavailable) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return EstimatedGroup(group_of(members, f"could not be counted: {reason}"))
    tf32 = run.spec.settings.compute.tf32
    steps = group_of(members, "").steps

    def seconds(efficiency: Efficiency) -> float:
        rates = reached(hardware, efficiency, tf32=tf32)
        return steps * rates.total(step) + evaluations(run) * rates.total(evaluation)

    peak = max(step.peak_bytes, evaluation.peak_bytes) / 2**20
    return EstimatedGroup(
        group=group_of(members, StepCost(seconds(ASSUMED) / steps, "counted", peak)),
        fastest=seconds(FASTEST),
        slowest=seconds(SLOWEST),
        layers=layer_costs(step, hardware, tf32=tf32),
    )


def evaluations(run: Run) -> int:
    """Batches of evaluation in a run: validation after each epoch, and test at its end with two networks."""
    epochs = run.spec.settings.train.epochs
    return epochs * math.ceil(run.size.validation / EVALUATION_BATCH) + 2 * math.ceil(run.size.test / EVALUATION_BATCH)


def layer_costs(step: Counts, hardware: Hardware, *, tf32: bool) -> tuple[LayerCost, ...]:
    """In the order of the forward pass, then what belongs to no layer."""
    rates = reached(hardware, ASSUMED, tf32=tf32)
    by_layer: dict[str, dict[Kernel, float]] = {}
    for kernel, times in step.kernels.items():
        by_layer.setdefault(kernel.layer, {})[kernel] = times
    order = sorted(by_layer, key=lambda layer: layer in (OPTIMIZER, ELSEWHERE))
    return tuple(_layer_cost(layer, Counts(by_layer[layer], 0), rates) for layer in order)


def _layer_cost(layer: str, own: Counts, rates: Rates) -> LayerCost:
    return LayerCost(layer, own.flops, own.bytes, own.launches, rates.total(own))


def arithmetic(spec: RunSpec) -> set[Arithmetic]:
    """What a run's products are computed in; task gradients and evaluation never use bf16."""
    compute = spec.settings.compute
    single: Arithmetic = "tf32" if compute.tf32 else "fp32"
    return {single, "bf16"} if compute.precision == "bf16" else {single}

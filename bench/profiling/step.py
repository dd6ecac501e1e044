"""How long a training step takes up to the optimizer: our methods, other packages, and an autograd baseline.

A step is the forward pass, the losses, the weighting and all gradients. All candidates of a workload run in one
process, on networks with the same weights and on the same batch, in the same rounds.

The *autograd baseline* is what torch needs for the passes of such a method, with all results dropped. For methods that
need only losses ("one") it is one forward pass and one backward pass of the sum of the losses. For the others ("per
task") it is one forward pass, one forward and backward pass of each head, and one backward pass through the shared part
per task. NORMAL has a flow besides, but is compared with the baseline of the network without one. A Gramian method can
be faster than the baseline: it needs only inner products of gradients, which may cost less than the gradients.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from bench.engine.build import build_network
from bench.engine.device import make_current
from bench.engine.heads import forward_shared, heads_forward_backward
from bench.engine.precision import choose_kernels
from bench.engine.step import compute_gradients
from bench.engine.task_gradients import GradientBuffer
from bench.engine.train_state import TrainState, commit, make_train_state
from bench.profiling.harness import Candidate, Sample, run_benchmark, timed
from bench.profiling.peers import STEADY_EPOCH, Problem, Step, forward, peer_step
from bench.profiling.workloads import Workload
from bench.records.speed import BASELINE, OURS, Cell, Passes, WorkloadRecord
from bench.spec.resolve import RunSpec
from bench.spec.settings import SpecError
from datasets.contract import Batch
from methods import METHODS
from methods.adapters.counterparts import COUNTERPARTS, methods_in
from methods.contract import Network, batches_of

# Rounds whose samples are dropped.
WARMUP = 1
# Settings of the network and of the precision of products apply to all candidates, others to ours only.
_FOR_ALL = ("backbone.", "heads.name", "compute.tf32", "compute.cudnn_benchmark")

APPROXIMATED = ("mgda", "cagrad", "nash_mtl")
APPROXIMATIONS: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "every 5 steps": {"weighting.every": 5},
    "every 20 steps": {"weighting.every": 20},
    "last block": {"weighting.grad_space": "last_block"},
    "representation": {"weighting.grad_space": "representation"},
}


@dataclass(frozen=True)
class MethodStep:
    """A training step to be timed.

    candidate: OURS, BASELINE or a package.
    method: its key; "" for a baseline.
    passes: the baseline that the step is compared with.
    approximation: of the method, a key of APPROXIMATIONS.
    """

    candidate: str
    method: str
    passes: Passes
    approximation: str = ""

    @property
    def key(self) -> str:
        return f"{self.method}, {self.approximation}" if self.approximation else self.method

    @property
    def label(self) -> str:
        label = METHODS[self.method].label if self.method else ""
        return f"{label}, {self.approximation}" if self.approximation else label

    def __str__(self) -> str:
        return f"baseline, {self.passes}" if self.candidate == BASELINE else f"{self.label}, {self.candidate}"


BASELINES = (MethodStep(BASELINE, "", "one"), MethodStep(BASELINE, "", "per task"))


@dataclass(frozen=True)
class StepBenchmark:
    """The work that all candidates do; settings: of our runs, by dotted key."""

    workload: Workload
    settings: Mapping[str, Any]
    device: torch.device

    def spec(self, step: MethodStep) -> RunSpec:
        """For ours, a run of the method with all settings, otherwise of EW with the same network.

        Where ours does the same as the packages only under some settings of the weighting, it has these.

        Raises:
            UnknownName, SpecError: a setting is not known, or has no valid value.
        """
        if step.candidate == OURS:
            common = COUNTERPARTS[step.method].settings if step.method in COUNTERPARTS else {}
            settings = {f"weighting.{name}": value for name, value in common.items()}
            settings |= {**self.settings, **APPROXIMATIONS[step.approximation]}
            spec = self.workload.spec(step.method, **settings)
            if (processes := spec.settings.compute.processes) > 1:
                raise SpecError(f"compute.processes: expected 1, since one process takes each step, found {processes}.")
            return spec
        for_all = {key: value for key, value in self.settings.items() if key.lower().startswith(_FOR_ALL)}
        return self.workload.spec("ew", **for_all)

    def steps(self, methods: Sequence[str], packages: Sequence[str]) -> list[MethodStep]:
        """Both baselines, and each method as ours and as that of every package that has it.

        Raises:
            UnknownName, SpecError: as in `spec`.
        """
        steps = list(BASELINES)
        for method in methods:
            weighting = self.spec(MethodStep(OURS, method, "one")).settings.weighting
            passes: Passes = "one" if weighting.needs == "losses" else "per task"
            having = [package for package in packages if method in methods_in(package)]
            steps += [MethodStep(candidate, method, passes) for candidate in (OURS, *having)]
        return steps

    def approximations(self, methods: Sequence[str]) -> list[MethodStep]:
        """Both baselines, EW, and each method, exact and with every approximation that the workload allows."""
        steps = [*BASELINES, MethodStep(OURS, "ew", "one")]
        for method in methods:
            for name in APPROXIMATIONS:
                step = MethodStep(OURS, method, "per task", name)
                try:
                    self.spec(step)
                except SpecError:  # tasks with inputs of their own share no representation
                    continue
                steps.append(step)
        return steps


@dataclass
class StepFactory:
    """The batch of a benchmark, and the networks and buffers that steps of the same candidate share."""

    benchmark: StepBenchmark
    batch: Batch = field(init=False)
    _networks: dict[tuple[str, str], Network] = field(default_factory=dict)
    _buffers: dict[tuple[str, str, str], GradientBuffer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_current(self.benchmark.device)  # memory is measured in processes of its own
        self.batch = self.benchmark.workload.noise(self.benchmark.device)
        choose_kernels(self.benchmark.spec(BASELINES[0]).settings.compute)

    def network(self, step: MethodStep) -> Network:
        """In training mode; one for each candidate and architecture, all with the same weights."""
        spec = self.benchmark.spec(step)
        key = (step.candidate, spec.architecture)
        if key not in self._networks:
            network = build_network(spec, self.benchmark.device, self.benchmark.workload.tasks)
            network.train()
            self._networks[key] = network
        return self._networks[key]

    def step(self, step: MethodStep) -> Step:
        """A call that takes one step. Errors of a package are raised here or by the call."""
        problem = Problem(self.network(step), self.benchmark.workload.tasks, self.batch)
        if step.candidate == BASELINE:
            return partial(baseline_step, problem, step.passes)
        if step.candidate == OURS:
            spec = self.benchmark.spec(step)
            # Methods with the same needs share a Jacobian, which takes GiB for forty tasks.
            key = (spec.architecture, spec.settings.weighting.needs, spec.settings.gramian.grad_space)
            buffer = self._buffers.setdefault(key, GradientBuffer(len(problem.tasks)))
            state = make_train_state(spec, problem.network, problem.tasks, buffer)
            return partial(_own_step, state, self.batch, itertools.count())
        return peer_step(step.candidate, step.method, problem)

    def describe(self) -> WorkloadRecord:
        """The workload as recorded; its shared parameters are those of the network without a flow."""
        workload = self.benchmark.workload
        return WorkloadRecord(
            key=workload.key,
            label=workload.label,
            data=workload.data,
            series=workload.series,
            tasks=workload.n_tasks,
            inputs=len(self.batch),
            batch_size=workload.batch_size,
            image_size=workload.image_size,
            parameters=sum(parameter.numel() for parameter in self.network(BASELINES[0]).shared_parameters()),
        )


def _own_step(state: TrainState, batch: Batch, count: Iterator[int]) -> None:
    """`train_step` without optimizers and post-step hook."""
    others = [batch] * (batches_of(state.weighting) - 1)
    _, update = compute_gradients(state, batch, next(count), STEADY_EPOCH, others=others)
    commit(state, update)


def baseline_step(problem: Problem, passes: Passes) -> None:
    """One input after another, so that one graph exists at a time; only the heads' gradients are stored."""
    network = problem.network
    network.heads.zero_grad(set_to_none=True)
    parameters = network.shared_parameters()
    for group in problem.batch:
        if passes == "one":
            own = [p for task in group.targets for p in network.heads[task].parameters()]
            _, losses = forward(problem, [group])
            torch.autograd.grad(losses, [*parameters, *own])
            continue
        head_gradients = heads_forward_backward(network, problem.tasks, forward_shared(network, [group]).heads)
        for index, head_gradient in enumerate(head_gradients):
            retain = index + 1 < len(head_gradients)
            torch.autograd.grad(head_gradient.z, parameters, head_gradient.gradient, retain_graph=retain)


def time_steps(
    benchmark: StepBenchmark,
    steps: Sequence[MethodStep],
    rounds: int,
    on_sample: Callable[[str], None] = lambda name: None,
) -> tuple[WorkloadRecord, list[Cell]]:
    """The workload, and a cell for each step, without memory. The cell of a step that fails has its error."""
    factory = StepFactory(benchmark)
    prepared = functools.cache(factory.step)  # called in the first round, so that its errors are caught

    def call(step: MethodStep) -> Sample:
        """The mean over one update interval, of which only the first step computes weights."""
        every = benchmark.spec(step).settings.gramian.every
        return timed(prepared(step), benchmark.device, every)

    candidates = [Candidate(benchmark.workload.key, str(step), partial(call, step), may_fail=True) for step in steps]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from solvers of other packages, about inaccurate solutions
        results = run_benchmark(candidates, rounds, benchmark.device, warmup=WARMUP, on_sample=on_sample)
    cells = [
        Cell(
            workload=benchmark.workload.key,
            method=step.key,
            label=step.label,
            candidate=step.candidate,
            passes=step.passes,
            seconds=[sample.seconds for sample in result.samples],
            error=result.error,
        )
        for step, result in zip(steps, results, strict=True)
    ]
    return factory.describe(), cells

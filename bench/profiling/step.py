"""How long a training step takes up to the optimizer: every method of ours, beside peers and beside a floor.

A step is what stands between a batch and gradients that an optimizer can move by: forward, losses, weighting, and
every gradient in its place. All contestants of a shape run in one process, on networks with the same weights and on
the same batch, and take turns.

The *floor* is what torch needs for the passes that such a method does, all results being dropped: one forward and one
backward of the sum of the losses ("one"); or one forward, every head forward and back once, and through the shared part
one backward for each task ("per task"). NORMAL, which has a flow to pass through besides, is compared with the floor of
the plain network. A method that needs no more than the inner products of gradients can do with less than a gradient of
every weight for each task, and so come out below the floor.
"""

from __future__ import annotations

import itertools
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from bench.engine.build import build_network
from bench.engine.device import synchronise
from bench.engine.heads import forward_shared, heads_forward_backward
from bench.engine.precision import allow_tf32
from bench.engine.step import compute_gradients
from bench.engine.task_gradients import GradientBuffer
from bench.engine.train_state import TrainState, commit, make_train_state
from bench.profiling.harness import Turn, order_of_turns, quickest
from bench.profiling.peers import STEADY_EPOCH, Problem, Step, methods_of, pass_ahead, peer_step
from bench.profiling.workloads import Shape
from bench.records.speed import FLOOR, OURS, Cell, Passes, Series, ShapeRecord, SpeedRecord
from bench.spec.resolve import RunSpec
from datasets.contract import Batch
from methods import METHODS
from methods.contract import Evaluations, Network

# Turns of each contestant on a shape that aren't counted.
WARMUP = 1
# The settings that say what network it is, and how exact a product. They hold for floors and peers too, no others do.
_FOR_ALL = ("backbone.", "heads.name", "compute.tf32")


@dataclass(frozen=True)
class Entry:
    """One that takes steps: who, with which method ("" for a floor), and the passes of the floor that it goes with.

    shortcut: what it does otherwise than the method, and the dotted settings that make it so.
    """

    contestant: str
    method: str
    passes: Passes
    shortcut: str = ""
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def key(self) -> str:
        return f"{self.method}, {self.shortcut}" if self.shortcut else self.method

    @property
    def label(self) -> str:
        label = METHODS[self.method].label if self.method else ""
        return f"{label}, {self.shortcut}" if self.shortcut else label

    def __str__(self) -> str:
        return f"floor, {self.passes}" if self.contestant == FLOOR else f"{self.label}, {self.contestant}"


@dataclass(frozen=True)
class Course:
    """The work that all contestants are given. series: what the shape is one of. settings: of our runs, dotted."""

    shape: Shape
    series: Series
    settings: Mapping[str, Any]
    device: torch.device

    def spec(self, entry: Entry) -> RunSpec:
        """Ours: the run of that method with all settings. Floors and peers: a run with the same network.

        Raises:
            UnknownName, SpecError: a setting is not known, or has no valid value.
        """
        if entry.contestant == OURS:
            return self.shape.spec(entry.method, **{**self.settings, **dict(entry.changes)})
        for_all = {key: value for key, value in self.settings.items() if key.lower().startswith(_FOR_ALL)}
        return self.shape.spec("ew", **for_all)

    def entries(self, methods: Sequence[str], peers: Sequence[str]) -> list[Entry]:
        """Both floors, and each method by ours and by those peers that have it.

        Raises:
            UnknownName, SpecError: as in `spec`.
        """
        entries = [Entry(FLOOR, "", "one"), Entry(FLOOR, "", "per task")]
        for method in methods:
            weighting = self.spec(Entry(OURS, method, "one")).settings.weighting
            passes: Passes = "one" if weighting.needs == "losses" else "per task"
            having = [peer for peer in peers if method in methods_of(peer)]
            entries += [Entry(contestant, method, passes) for contestant in (OURS, *having)]
        return entries


@dataclass
class Stage:
    """A course, and the networks and buffers that its contestants share; ours never share any with others."""

    course: Course
    batch: Batch = field(init=False)
    _networks: dict[tuple[str, str], Network] = field(default_factory=dict)
    _buffers: dict[tuple[str, str, str], GradientBuffer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.batch = self.course.shape.noise(self.course.device)
        allow_tf32(self.course.spec(Entry(FLOOR, "", "one")).settings.compute.tf32)

    def network(self, entry: Entry) -> Network:
        """In training mode; one for each contestant and architecture, all with the same weights."""
        spec = self.course.spec(entry)
        key = (entry.contestant, spec.architecture)
        if key not in self._networks:
            network = build_network(spec, self.course.device, self.course.shape.tasks)
            network.train()
            self._networks[key] = network
        return self._networks[key]

    def step(self, entry: Entry) -> Step:
        """A call that takes one step. Whatever a peer raises comes out here or there."""
        problem = Problem(self.network(entry), self.course.shape.tasks, self.batch)
        if entry.contestant == FLOOR:
            return partial(floor_step, problem, entry.passes)
        if entry.contestant == OURS:
            return partial(_own_step, self.train_state(entry), self.batch, itertools.count())
        return peer_step(entry.contestant, entry.method, problem)

    def train_state(self, entry: Entry) -> TrainState:
        """Our method before its first step. Those that need the same share a Jacobian: for forty tasks it takes GiB."""
        spec = self.course.spec(entry)
        key = (spec.architecture, spec.settings.weighting.needs, spec.settings.gramian.grad_space)
        buffer = self._buffers.setdefault(key, GradientBuffer(len(self.course.shape.tasks)))
        return make_train_state(spec, self.network(entry), self.course.shape.tasks, buffer)


def _own_step(train_state: TrainState, batch: Batch, count: Iterator[int]) -> None:
    """All of `train_step` but the move: FAMO's look at the losses after it is left out, too."""
    _, update = compute_gradients(train_state, batch, next(count), STEADY_EPOCH)
    commit(train_state, update)


def floor_step(problem: Problem, passes: Passes) -> None:
    """Input after input, so that one graph is alive at a time; no gradient is kept but those of the heads."""
    network = problem.network
    network.heads.zero_grad(set_to_none=True)
    parameters = network.shared_parameters()
    for group in problem.batch:
        if passes == "one":
            own = [p for task in group.targets for p in network.heads[task].parameters()]
            _, losses = pass_ahead(problem, [group])
            torch.autograd.grad(losses, [*parameters, *own])
            continue
        crossed = heads_forward_backward(network, problem.tasks, forward_shared(network, [group]).heads)
        for index, head_gradient in enumerate(crossed):
            more = index + 1 < len(crossed)
            torch.autograd.grad(head_gradient.z, parameters, head_gradient.gradient, retain_graph=more)


def race_steps(
    course: Course, entries: Sequence[Entry], rounds: int, on_turn: Callable[[Entry], None] = lambda entry: None
) -> tuple[ShapeRecord, list[Cell]]:
    """The shape, and a cell for each entry, without memory.

    Whoever raises an error is out of the race, and the cell says why.
    """
    stage = Stage(course)
    steps: dict[Entry, Step] = {}
    seconds: dict[Entry, list[float]] = {entry: [] for entry in entries}
    faults: dict[Entry, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peers' solvers, about problems that they can't solve well
        for index, which in order_of_turns(len(entries), rounds, WARMUP):
            entry = entries[which]
            on_turn(entry)
            if entry in faults:
                continue
            try:
                if entry not in steps:
                    steps[entry] = stage.step(entry)
                turn = quickest(partial(_timed, steps[entry], course.spec(entry).settings.gramian.every, course.device))
            except Exception as error:
                faults[entry] = one_line(error)
                steps.pop(entry, None)
                continue
            if index >= 0:
                seconds[entry].append(turn.seconds)
    cells = [_cell(course.shape, entry, seconds[entry], faults.get(entry, "")) for entry in entries]
    return describe_shape(stage), cells


def one_line(error: Exception) -> str:
    """What was raised, without all but the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")


def _timed(step: Step, times: int, device: torch.device) -> Turn:
    """The mean of so many steps in a row: as many as there are from one renewal of the weights to the next."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(times):
        step()
    synchronise(device)
    return Turn((time.perf_counter() - start) / times, Evaluations(0, 0))


def _cell(shape: Shape, entry: Entry, seconds: list[float], fault: str) -> Cell:
    return Cell(
        shape=shape.key,
        method=entry.key,
        label=entry.label,
        contestant=entry.contestant,
        passes=entry.passes,
        seconds=[] if fault else seconds,
        fault=fault,
    )


def describe_shape(stage: Stage) -> ShapeRecord:
    """The shape as recorded; its shared parameters are those of the network without a flow."""
    shape = stage.course.shape
    network = stage.network(Entry(FLOOR, "", "one"))
    return ShapeRecord(
        key=shape.key,
        label=shape.label,
        data=shape.data,
        series=stage.course.series,
        tasks=shape.n_tasks,
        inputs=len(stage.batch),
        batch_size=shape.batch_size,
        image_size=shape.image_size,
        parameters=sum(parameter.numel() for parameter in network.shared_parameters()),
    )


def merged(earlier: SpeedRecord | None, new: SpeedRecord) -> SpeedRecord:
    """The new measurement with those shapes of an earlier one that it hasn't, where both were made alike.

    Shapes keep their places. Alike: on the same machine and device, at the same size, threads and settings.
    """
    if earlier is None or _circumstances(earlier) != _circumstances(new):
        return new
    replaced = {shape.key: shape for shape in new.shapes}
    shapes = [replaced.pop(shape.key, shape) for shape in earlier.shapes] + list(replaced.values())
    measured = {shape.key for shape in new.shapes}
    cells = [cell for cell in earlier.cells if cell.shape not in measured] + new.cells
    order = [shape.key for shape in shapes]
    return new.model_copy(update={"shapes": shapes, "cells": sorted(cells, key=lambda cell: order.index(cell.shape))})


def _circumstances(record: SpeedRecord) -> tuple[object, ...]:
    return record.machine, record.device, record.size, record.threads, record.settings


def machine_name(chip: str, threads: int) -> str:
    """Like amd-epyc-7b13-2-threads."""
    words = re.findall(r"[a-z0-9.]+", re.sub(r"\((r|tm|c)\)|@.*", " ", chip.lower()))
    return "-".join([*words, str(threads), "thread" if threads == 1 else "threads"])

"""What NORMAL's flow costs: in a training step, by the number of tasks, by inputs and by solver.

A question has settings, and a setting has contestants. Machines are noisy, so what counts are ratios within a round, to
the first contestant of the setting. B batch, m tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn

from bench import ROOT
from bench.engine.build import build_network
from bench.engine.device import chip_name, synchronise
from bench.engine.seeds import generator_for, seed_for
from bench.engine.step import train_step
from bench.engine.train_state import TrainState, make_train_state
from bench.profiling.harness import Contestant, Lap, Turn, race
from bench.records.environment import describe_environment
from bench.spec.resolve import resolve
from datasets import DATASETS
from datasets.contract import Batch, Group
from methods import METHODS
from methods.architectures.backbones import BACKBONES
from methods.architectures.flow import Flow, Gradient, SolverName, states_at
from methods.architectures.normal import Normal, NormalNetwork
from methods.contract import Evaluations, Features

PIXELS = 64
# Its tasks, heads and recipe, none of its images: four tasks, ResNet-18, linear heads.
_DATA = "officehome"
_TASKS = len(DATASETS[_DATA].tasks)
VECTORS, MAPS = BACKBONES["resnet18"].features, BACKBONES["resnet18_dilated"].features
# Dense problems are trained on fewer images at a time than others.
_IMAGES_PER_MAP = 4
TASK_COUNTS = (1, 4, 40)
# Like a learned position, it isn't on the grid of the solver; on [0, 2], which is as far as positions get.
_FURTHEST = 1.99
PLACES = {"equal positions": (1.0, 1.0, 1.0, 1.0), "spread positions": (1.0, 1.25, 1.5, 1.75)}
WHOLE_STEP = "whole training step"


def training_step(batch_size: int, device: torch.device) -> list[Contestant]:
    """A training step of EW and of NORMAL, on one input that four tasks read and on an input for each of them."""
    shapes = {
        f"single-input, {batch_size} images": _single_input(batch_size, device),
        f"multi-input, {_TASKS} × {batch_size} images": _multi_input(batch_size, device),
    }
    train_states = {METHODS[method].label: _train_state(method, device) for method in ("ew", "normal")}
    return [
        Contestant(shape, label, partial(_step_turn, train_state, batch, device))
        for shape, batch in shapes.items()
        for label, train_state in train_states.items()
    ]


def by_tasks(batch_size: int, device: torch.device) -> list[Contestant]:
    """One trajectory for m tasks, and a solve for each of them, over the same span of positions."""
    contestants = []
    for features in (VECTORS, MAPS):
        block, z = _block(features, device), _encoded(features, batch_size, device)
        setting = f"maps {_shape(z)}" if features.dense else f"vectors {_shape(z)}"
        for m in TASK_COUNTS:
            positions = positions_up_to(_FURTHEST, m)
            ways = {"one trajectory": one_trajectory} | ({"a solve per task": a_solve_per_task} if m > 1 else {})
            contestants += [
                _flow_contestant(setting, f"m = {m}, {name}", block, partial(way, block, z, positions), device)
                for name, way in ways.items()
            ]
    return contestants


def by_inputs(batch_size: int, device: torch.device) -> list[Contestant]:
    """The features of four inputs solved one after another and together, and the training step that they are part of.

    The step is that of EW; its positions stay where they are, so that all rounds do the same work.
    """
    contestants = []
    for setting, positions in PLACES.items():
        block = _block(VECTORS, device)
        inputs = [_encoded(VECTORS, batch_size, device, task) for task in range(_TASKS)]
        for name, way in {"one after another": inputs_in_turn, "together": inputs_together}.items():
            solve = partial(way, block, inputs, positions)
            contestants.append(_flow_contestant(setting, name, block, solve, device))
        train_state = _train_state("normal", device, initial_positions=positions, position_form="constant")
        step = partial(_step_turn, train_state, _multi_input(batch_size, device), device)
        contestants.append(Contestant(setting, WHOLE_STEP, step))
    return contestants


def by_solver(batch_size: int, device: torch.device) -> list[Contestant]:
    """Every solver with both ways back, for four tasks."""
    z = _encoded(VECTORS, batch_size, device)
    positions = positions_up_to(_FURTHEST, _TASKS)
    contestants = []
    for solver in get_args(SolverName):
        for gradient in get_args(Gradient):
            block = _block(VECTORS, device, solver=solver, gradient=gradient)
            solve = partial(one_trajectory, block, z, positions)
            contestants.append(_flow_contestant(f"vectors {_shape(z)}", f"{solver}, {gradient}", block, solve, device))
    return contestants


QUESTIONS: Mapping[str, Callable[[int, torch.device], list[Contestant]]] = {
    "step": training_step,
    "tasks": by_tasks,
    "inputs": by_inputs,
    "solvers": by_solver,
}


def measure(question: str, batch_size: int, rounds: int, device: torch.device) -> list[Lap]:
    """The laps of one of QUESTIONS."""
    return race(question, QUESTIONS[question](batch_size, device), rounds, device)


def positions_up_to(furthest: float, m: int) -> list[float]:
    """m positions, evenly apart, the last being the furthest."""
    return [furthest * (task + 1) / m for task in range(m)]


def one_trajectory(block: NormalNetwork, z: Tensor, positions: Sequence[float]) -> list[Tensor]:
    """z(p_i) (B, ...) for every task, as NORMAL has it."""
    return _read(block.flow, states_at(block.flow, block.flow.start(z), positions, block.solver))


def a_solve_per_task(block: NormalNetwork, z: Tensor, positions: Sequence[float]) -> list[Tensor]:
    """The same, from a trajectory for each task."""
    start = block.flow.start(z)
    return _read(block.flow, [states_at(block.flow, start, [p], block.solver)[0] for p in positions])


def inputs_in_turn(block: NormalNetwork, inputs: Sequence[Tensor], positions: Sequence[float]) -> list[Tensor]:
    """z(p_i) (B, ...) for every task from its own input, as where every task needs a gradient of its own."""
    return [one_trajectory(block, z, [p])[0] for z, p in zip(inputs, positions, strict=True)]


def inputs_together(block: NormalNetwork, inputs: Sequence[Tensor], positions: Sequence[float]) -> list[Tensor]:
    """The same from one trajectory of all inputs, which takes every one of them to the furthest position."""
    states = states_at(block.flow, block.flow.start(torch.cat(list(inputs))), positions, block.solver)  # (·, m·B, ...)
    sizes = [len(z) for z in inputs]
    return _read(block.flow, [state.split(sizes, dim=1)[task] for task, state in enumerate(states)])


def _read(flow: Flow, states: Sequence[Tensor]) -> list[Tensor]:
    """z of every state; dz/dt too, which moves the positions, is worked out as in a training step."""
    with torch.no_grad():
        flow.velocities(states, flow)
    return [state[0] for state in states]


def _flow_contestant(
    setting: str, name: str, block: NormalNetwork, solve: Callable[[], list[Tensor]], device: torch.device
) -> Contestant:
    return Contestant(setting, name, partial(_flow_turn, block.flow, solve, device))


def _flow_turn(flow: Flow, solve: Callable[[], list[Tensor]], device: torch.device) -> Turn:
    """The way ahead, and back from the sum of every task's mean feature, about as steep as a loss.

    How steep it is matters to dopri5 on its way back, whose tolerance is absolute too.
    """
    calls: list[object] = []
    hook = flow.register_forward_hook(lambda *_: calls.append(None))
    start = _now(device)
    features = solve()
    ahead = _now(device) - start
    there = len(calls)
    gradients = [torch.full_like(features[0], 1 / features[0].numel())] * len(features)
    start = _now(device)
    torch.autograd.backward(features, gradients)
    back = _now(device) - start
    hook.remove()
    return Turn(ahead + back, Evaluations(there, len(calls) - there), ahead)


def _step_turn(train_state: TrainState, batch: Batch, device: torch.device) -> Turn:
    start = _now(device)
    result = train_step(train_state, batch, step=0, epoch=0)
    seconds = _now(device) - start
    return Turn(seconds, result.evaluations or Evaluations(0, 0))


def _now(device: torch.device) -> float:
    """Seconds, once the device has done all that it was asked to."""
    synchronise(device)
    return time.perf_counter()


def _train_state(method: str, device: torch.device, **architecture: object) -> TrainState:
    """A method as it is trained, from random weights."""
    settings = {f"arch.{name}": value for name, value in architecture.items()}
    spec = resolve(_DATA, method, assignments={"backbone.weights": "none", **settings})
    return make_train_state(spec, build_network(spec, device))


def _single_input(batch_size: int, device: torch.device) -> Batch:
    return [Group(_images(batch_size, device), {task: _labels(task, batch_size, device) for task in range(_TASKS)})]


def _multi_input(batch_size: int, device: torch.device) -> Batch:
    return [
        Group(_images(batch_size, device, task), {task: _labels(task, batch_size, device)}) for task in range(_TASKS)
    ]


def _images(batch_size: int, device: torch.device, task: int = 0) -> Tensor:
    """(B, 3, H, W), normalised as images are, of noise."""
    shape = (batch_size, 3, PIXELS, PIXELS)
    return torch.randn(shape, generator=generator_for(0, "images", task)).to(device)


def _labels(task: int, batch_size: int, device: torch.device) -> Tensor:
    """(B,) class indices, by chance."""
    classes = DATASETS[_DATA].tasks[task].outputs
    return torch.randint(classes, (batch_size,), generator=generator_for(0, "labels", task)).to(device)


def _block(features: Features, device: torch.device, **settings: object) -> NormalNetwork:
    """NORMAL's flow and solver, by default its own, without encoder, heads and positions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(0, "init", "architecture"))
        block = Normal(**settings).build(nn.Identity(), [], features, [])  # type: ignore[arg-type]
    return block.to(device)


def _encoded(features: Features, batch_size: int, device: torch.device, task: int = 0) -> Tensor:
    """Vectors (B, channels), or maps (B / 4, channels, H, W), with the signs of an encoder that ends in a ReLU."""
    shape: tuple[int, ...] = (batch_size, features.channels)
    if features.dense:
        side = PIXELS // features.stride
        shape = (max(batch_size // _IMAGES_PER_MAP, 1), features.channels, side, side)
    noise = torch.randn(shape, generator=generator_for(0, "features", task)).relu()
    return noise.to(device).requires_grad_()


def _shape(z: Tensor) -> str:
    return "×".join(str(size) for size in z.shape)


def circumstances(batch_size: int, rounds: int, device: torch.device) -> str:
    """One line on what was measured where."""
    environment = describe_environment(ROOT)
    return (
        f"Batches of {batch_size} images of {PIXELS}×{PIXELS}; medians of {rounds} rounds, first and third quartile in "
        f"brackets; {device.type} ({chip_name(device)}), threads: {torch.get_num_threads()}, "
        f"torch {environment['torch']}, torchdiffeq {environment['torchdiffeq']}."
    )

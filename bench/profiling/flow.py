"""The cost of NORMAL's flow: in a training step, by the number of tasks, by inputs and by solver.

Each of these four questions has one or more workloads. On each workload, the first candidate is the reference for the
times of the others. B batch, m tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import get_args

import torch
from torch import Tensor, nn

from bench.engine.build import build_network
from bench.engine.seeds import generator_for, seed_for
from bench.engine.step import train_step
from bench.engine.train_state import TrainState, make_train_state
from bench.profiling.harness import Candidate, Result, Sample, now, run_benchmark
from bench.profiling.workloads import Workload
from datasets.contract import Batch, Group
from methods import METHODS
from methods.architectures.backbones import BACKBONES
from methods.architectures.fixed_steps import State
from methods.architectures.flow import Flow, Gradient, SolverName, read, states_at, states_of_inputs
from methods.architectures.normal import Normal, NormalNetwork
from methods.contract import Evaluations, Features

PIXELS = 64
_TASKS = 4
VECTORS, MAPS = BACKBONES["resnet18"].features, BACKBONES["resnet18_dilated"].features
# Dense problems are trained on fewer images at a time than others.
_IMAGES_PER_MAP = 4
TASK_COUNTS = (1, 4, 40)
# Like a learned position, it isn't on the grid of the solver; positions are in [0, 2].
_FURTHEST = 1.99
POSITIONS = {"equal positions": (1.0, 1.0, 1.0, 1.0), "spread positions": (1.0, 1.25, 1.5, 1.75)}
WHOLE_STEP = "whole training step"
_WARMUP = 2


def measure(question: str, batch_size: int, rounds: int, device: torch.device) -> list[Result]:
    """The results of one of QUESTIONS."""
    return run_benchmark(list(QUESTIONS[question](batch_size, device)), rounds, device, warmup=_WARMUP)


def training_step(batch_size: int, device: torch.device) -> Iterator[Candidate]:
    """A training step of EW and of NORMAL, on one input that four tasks read and on an input for each of them."""
    groups = _workload(batch_size).noise(device)
    targets = {task: target for group in groups for task, target in group.targets.items()}
    batches = {
        f"single-input, {batch_size} images": [Group(groups[0].inputs, targets)],
        f"multi-input, {_TASKS} × {batch_size} images": groups,
    }
    states = {METHODS[method].label: _train_state(method, device) for method in ("ew", "normal")}
    for (workload, batch), (label, state) in product(batches.items(), states.items()):
        yield Candidate(workload, label, partial(_time_step, state, batch, device))


def by_tasks(batch_size: int, device: torch.device) -> Iterator[Candidate]:
    """One trajectory for m tasks, and a solve for each of them, over the same span of positions."""
    for features in (VECTORS, MAPS):
        block, z = _block(features, device), _encoded(features, batch_size, device)
        workload = f"{'maps' if features.dense else 'vectors'} {'×'.join(map(str, z.shape))}"
        for m in TASK_COUNTS:
            positions = positions_up_to(_FURTHEST, m)
            for name, solve in {"one trajectory": one_trajectory, "a solve per task": a_solve_per_task}.items():
                if m > 1 or solve is one_trajectory:
                    call = partial(_time_flow, block.flow, partial(solve, block, z, positions), device)
                    yield Candidate(workload, f"m = {m}, {name}", call)


def by_inputs(batch_size: int, device: torch.device) -> Iterator[Candidate]:
    """The flow of four inputs, one for each task, solved one after another and together, and NORMAL's training step.

    The step is weighted equally, and its positions don't move, so that all rounds do the same work.
    """
    batch = _workload(batch_size).noise(device)
    for workload, positions in POSITIONS.items():
        block = _block(VECTORS, device)
        inputs = [_encoded(VECTORS, batch_size, device, task) for task in range(_TASKS)]
        for name, solve in {"one after another": inputs_in_turn, "together": inputs_together}.items():
            call = partial(_time_flow, block.flow, partial(solve, block, inputs, positions), device)
            yield Candidate(workload, name, call)
        state = _train_state("normal", device, initial_positions=positions, position_form="constant")
        yield Candidate(workload, WHOLE_STEP, partial(_time_step, state, batch, device))


def by_solver(batch_size: int, device: torch.device) -> Iterator[Candidate]:
    """Every solver with both kinds of backward pass, for four tasks."""
    z = _encoded(VECTORS, batch_size, device)
    positions = positions_up_to(_FURTHEST, _TASKS)
    for solver, gradient in product(get_args(SolverName), get_args(Gradient)):
        block = _block(VECTORS, device, solver=solver, gradient=gradient)
        solve = partial(one_trajectory, block, z, positions)
        yield Candidate(
            f"vectors {'×'.join(map(str, z.shape))}",
            f"{solver}, {gradient}",
            partial(_time_flow, block.flow, solve, device),
        )


QUESTIONS: Mapping[str, Callable[[int, torch.device], Iterator[Candidate]]] = {
    "step": training_step,
    "tasks": by_tasks,
    "inputs": by_inputs,
    "solvers": by_solver,
}


def positions_up_to(furthest: float, m: int) -> list[float]:
    """m evenly spaced positions; the last is the furthest."""
    return [furthest * (task + 1) / m for task in range(m)]


def one_trajectory(block: NormalNetwork, z: Tensor, positions: Sequence[float]) -> list[Tensor]:
    """z(p_i) (B, ...) for every task, solved as in NORMAL."""
    return _read(block.flow, states_at(block.flow, block.flow.start(z), positions, block.solver))


def a_solve_per_task(block: NormalNetwork, z: Tensor, positions: Sequence[float]) -> list[Tensor]:
    """The same, from a trajectory for each task."""
    start = block.flow.start(z)
    return _read(block.flow, [states_at(block.flow, start, [p], block.solver)[0] for p in positions])


def inputs_in_turn(block: NormalNetwork, inputs: Sequence[Tensor], positions: Sequence[float]) -> list[Tensor]:
    """z(p_i) (B, ...) for every task from its own input, as for methods that need every task's gradient."""
    return [one_trajectory(block, z, [p])[0] for z, p in zip(inputs, positions, strict=True)]


def inputs_together(block: NormalNetwork, inputs: Sequence[Tensor], positions: Sequence[float]) -> list[Tensor]:
    """The same from one trajectory of all inputs, which takes all of them to the furthest position."""
    start, own = block.flow.start(torch.cat(list(inputs))), [[position] for position in positions]
    found = states_of_inputs(block.flow, start, [len(z) for z in inputs], own, block.solver)
    return _read(block.flow, [state for (state,) in found])


def _read(flow: Flow, states: Sequence[State]) -> list[Tensor]:
    """z of every state. Its dz/dt, the gradient of the positions, is computed and dropped: a training step needs it."""
    return [features.z for features in read(flow, flow, states)]


def _time_flow(flow: Flow, solve: Callable[[], list[Tensor]], device: torch.device) -> Sample:
    """The forward pass, and the backward pass from the sum of every task's mean feature.

    The gradients of that sum are about as large as those of a loss, which matters to the absolute tolerance of dopri5.
    """
    evaluations: list[object] = []
    hook = flow.register_forward_hook(lambda *_: evaluations.append(None))
    start = now(device)
    features = solve()
    forward, forward_evaluations = now(device) - start, len(evaluations)
    gradients = [torch.full_like(features[0], 1 / features[0].numel())] * len(features)
    start = now(device)
    torch.autograd.backward(features, gradients)
    backward = now(device) - start
    hook.remove()
    counts = Evaluations(forward_evaluations, len(evaluations) - forward_evaluations)
    return Sample(forward + backward, forward, counts)


def _time_step(state: TrainState, batch: Batch, device: torch.device) -> Sample:
    start = now(device)
    result = train_step(state, batch, step=0, epoch=0)
    seconds = now(device) - start
    return Sample(seconds, evaluations=result.evaluations or Evaluations(0, 0))


def _workload(batch_size: int) -> Workload:
    """Four tasks, ResNet-18 and linear heads: those of Office-Home, and its recipe, but images of noise."""
    return Workload("flow", "", "officehome", batch_size, (PIXELS, PIXELS), _TASKS)


def _train_state(method: str, device: torch.device, **architecture: object) -> TrainState:
    """A method as in training, from random weights."""
    spec = _workload(1).spec(method, **{f"arch.{name}": value for name, value in architecture.items()})
    return make_train_state(spec, build_network(spec, device))


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

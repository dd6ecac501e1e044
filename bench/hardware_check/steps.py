"""The first training steps of a run, on the CPU and on the device, and how far apart they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.engine.build import build_network
from bench.engine.precision import choose_kernels
from bench.engine.seeds import generator_for, seed_for
from bench.engine.step import train_step
from bench.engine.train_state import TrainState, make_train_state
from bench.hardware_check.problems import Problem
from bench.hardware_check.waits import WaitCounter
from bench.spec.resolve import RunSpec
from methods.contract import Network

CPU = torch.device("cpu")
STEPS = 3
# The share of themselves by which perturbed parameters change. On digits that moves the shared gradient by 1.0e-6 to
# 1.5e-6, whereas single precision on the CPU is 2e-7 to 5e-7 from double precision.
PERTURBATION = 1e-6


@dataclass(frozen=True)
class Steps:
    """The first steps of a run; all tensors are on the CPU, in float64.

    losses: (STEPS, m), before each step.
    gradient: (P,), what the first step applied to the shared parameters.
    parameters: (Q,), those of the whole network and its running means after the last step.
    waits: a place in the code for each wait of each step, from fetching its batch on; None if not counted.
    """

    losses: Tensor
    gradient: Tensor
    parameters: Tensor
    waits: Sequence[Sequence[str]] | None

    @property
    def finite(self) -> bool:
        return all(bool(values.isfinite().all()) for values in (self.losses, self.gradient, self.parameters))

    def equals(self, other: Steps) -> bool:
        """Whether all numbers are the same, to the last bit."""
        pairs = zip(self._numbers, other._numbers, strict=True)
        return all(torch.equal(ours, theirs) for ours, theirs in pairs)

    @property
    def _numbers(self) -> tuple[Tensor, ...]:
        return self.losses, self.gradient, self.parameters


@dataclass(frozen=True)
class Distances:
    """How far steps are from others that start from the same numbers.

    first_losses: of the first step, before anything was weighted: the largest |L − L'| / |L'| of a task.
    losses: the same over all steps.
    gradient: ‖g − g'‖ / ‖g'‖ of the first step, in the shared parameters.
    parameters: ‖θ − θ'‖ / ‖θ'‖ after the last step.
    """

    first_losses: float
    losses: float
    gradient: float
    parameters: float


def take_steps(
    spec: RunSpec,
    problem: Problem,
    device: torch.device,
    *,
    counter: WaitCounter | None = None,
    draw: int | None = None,
) -> Steps:
    """Trains for STEPS steps. draw: of a perturbation of the initial parameters."""
    choose_kernels(spec.settings.compute)
    torch.manual_seed(seed_for(spec.seed, "noise", 0))
    network = build_network(spec, device)
    if draw is not None:
        _perturb(network, draw)
    state = make_train_state(spec, network)
    batches = problem.batches(spec, device)
    losses: list[Tensor] = []
    gradient, waits = torch.empty(0), []
    for step in range(STEPS):
        with counter() if counter else nullcontext(tuple) as places:
            batch, *others = next(batches)
            result = train_step(state, batch, step, 0, others=others)
            waits.append(tuple(places()))
        losses.append(_on_cpu([result.losses]))
        if step == 0:
            gradient = _shared_gradient(state)
    after = [values for values in state.network.state_dict().values() if values.is_floating_point()]
    return Steps(torch.stack(losses), gradient, _on_cpu(after), waits if counter else None)


def _perturb(network: Network, draw: int) -> None:
    """Changes every parameter by a random part of itself of at most PERTURBATION."""
    generator = generator_for(0, "perturbation", draw)
    with torch.no_grad():
        for parameter in (*network.shared_parameters(), *network.heads.parameters()):
            parts = torch.rand(parameter.shape, generator=generator) * 2 - 1
            parameter.mul_(1 + PERTURBATION * parts.to(parameter.device))


def _shared_gradient(state: TrainState) -> Tensor:
    parameters = state.shared_parameters
    return _on_cpu([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])


def _on_cpu(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([values.detach().cpu().double().flatten() for values in tensors])


def distances(found: Steps, reference: Steps) -> Distances:
    """How far steps are from those of a reference."""
    apart = (found.losses - reference.losses).abs() / reference.losses.abs().clamp(min=torch.finfo(torch.float32).tiny)
    return Distances(
        first_losses=float(apart[0].max()),
        losses=float(apart.max()),
        gradient=_relative(found.gradient, reference.gradient),
        parameters=_relative(found.parameters, reference.parameters),
    )


def _relative(found: Tensor, reference: Tensor) -> float:
    """Relative to the norm of the reference; 0 where both are 0."""
    return float((found - reference).norm() / reference.norm().clamp(min=torch.finfo(torch.float32).tiny))

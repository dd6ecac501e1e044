"""Training steps on a device, with the waits and copies of each: PYTHONPATH=tests python -m pretend.steps."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from training import splits_of

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.placement import on_device
from bench.engine.seeds import generator_for
from bench.engine.step import StepResult, train_step
from bench.engine.train_state import TrainState, make_train_state
from bench.spec.resolve import RunSpec, resolve
from datasets import obtain
from datasets.contract import Batch
from methods.contract import batches_of
from pretend.counts import ROOT, Counts, Price, counting
from pretend.device import DEVICE, available

BATCH_SIZE = 4


@dataclass(frozen=True)
class Steps:
    """Some training steps.

    losses: (steps, m), of each step.
    weights: (steps, m), of each step.
    state: every tensor that has changed: parameters, buffers, memories of optimizers and of the weighting.
    counts: of each step, from fetching its batch until the next.
    """

    losses: Tensor
    weights: Tensor
    state: Mapping[str, Tensor]
    counts: Sequence[Counts]


def run_steps(spec: RunSpec, data_root: Path, device: torch.device, steps: int, price: Price | None = None) -> Steps:
    """The first steps of a run, as `bench.engine.loop` makes them; everything it returns is on the CPU."""
    torch.manual_seed(0)
    state = make_train_state(spec, build_network(spec, device))
    batches = _batches(spec, data_root, device)
    results: list[StepResult] = []
    counts: list[Counts] = []
    for step in range(steps):
        with counting(price) as counted:
            batch, *others = next(batches)
            results.append(train_step(state, batch, step, 0, others=others))
        counts.append(counted())
    return Steps(
        torch.stack([result.losses.cpu() for result in results]),
        torch.stack([result.weights.cpu() for result in results]),
        {name: tensor.detach().cpu() for name, tensor in _tensors_of(state).items()},
        counts,
    )


def _batches(spec: RunSpec, data_root: Path, device: torch.device) -> Iterator[tuple[Batch, ...]]:
    """The batches of each step, from data that is on the device if it fits."""
    split = on_device(splits_of(spec, data_root), device).train
    size, augment = spec.settings.train.batch_size, spec.settings.data.augment
    streams = [
        training_batches(split, spec.info, size, generator_for(spec.seed, "batches", index), device, augment)
        for index in range(batches_of(spec.settings.weighting))
    ]
    return zip(*streams, strict=True)


def _tensors_of(state: TrainState) -> dict[str, Tensor]:
    """Every tensor of a state in training, by name."""
    named = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    for name, optimizer in state.optimizers.items():
        for index, remembered in optimizer.state_dict()["state"].items():
            named |= {f"{name}.{index}.{key}": tensor for key, tensor in remembered.items()}
    return named | {f"weighting.{name}": tensor for name, tensor in state.weighting_state.memory.items()}


def spec_of(method: str, data: str, arch: str | None = None, **settings: object) -> RunSpec:
    """A run with small batches. arch: makes `method` the name of a weighting on this architecture."""
    assignments = {"train.batch_size": BATCH_SIZE, **settings}
    weighting = None if arch is None else method
    return resolve(data, method, architecture=arch, weighting=weighting, assignments=assignments)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the counts of the last of some steps on the pretend device."""
    parser = argparse.ArgumentParser(prog="python -m pretend.steps", description=__doc__)
    parser.add_argument("--method", default="ew", help="the name of a method, or with --arch of a weighting")
    parser.add_argument("--arch", help="an architecture, by default the method's own")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-root", type=Path, default=ROOT / "data")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings, as for bench.run")
    arguments = parser.parse_args(argv)
    obtain(arguments.data, arguments.data_root)
    settings = dict(assignment.split("=", 1) for assignment in arguments.set)
    spec = spec_of(arguments.method, arguments.data, arguments.arch, **settings)
    with available():
        counts = run_steps(spec, arguments.data_root, DEVICE, arguments.steps).counts
    print(f"step {arguments.steps} of {spec.variant} on {spec.data}: {counts[-1]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

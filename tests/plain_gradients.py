"""Steps of the engine beside plain backpropagation: one full backward pass per task over the whole graph."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from training import splits_of

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.seeds import generator_for
from bench.engine.step import compute_gradients
from bench.engine.train_state import TrainState, make_train_state
from bench.spec.resolve import resolve
from datasets.contract import Batch, Group
from methods import WEIGHTINGS
from methods.contract import Signal, Update, batches_of

CPU = torch.device("cpu")
PROBLEMS = ("digits", "rooms", "faces")
# Weightings whose step reads one batch.
ONE_BATCH = [name for name, info in WEIGHTINGS.items() if batches_of(info.factory()) == 1]


def prepared(
    data: str, data_root: Path, weighting: str, arch: str = "hps", double: bool = True, **assignments: object
) -> tuple[TrainState, Batch]:
    """A network, in float64 by default, with one batch."""
    settings = {"train.batch_size": 4, **assignments}
    spec = resolve(data, architecture=arch, weighting=weighting, assignments=settings)
    splits = splits_of(spec, data_root)
    network = build_network(spec, CPU)
    size = spec.settings.train.batch_size
    batch: Batch = next(iter(training_batches(splits.train, spec.info, size, generator_for(0, "test"), CPU)))
    if not double:
        return make_train_state(spec, network), batch
    network.double()  # type: ignore[attr-defined]
    batch = [Group(g.inputs.double(), {t: as_double(y) for t, y in g.targets.items()}) for g in batch]
    return make_train_state(spec, network), batch


def as_double(target: Tensor) -> Tensor:
    return target.double() if target.is_floating_point() else target


def plain_gradients(state: TrainState, batch: Batch) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Per task: gradients of its loss in the shared parameters and in its own head, on one whole graph."""
    network = copy.deepcopy(state.network)
    parameters = network.shared_parameters()
    shared: dict[int, list[Tensor]] = {}
    own: dict[int, list[Tensor]] = {}
    for group in batch:
        readers = list(group.targets)
        for task, features in zip(readers, network.features(group.inputs, readers), strict=True):
            loss = state.tasks[task].loss(network.heads[task](features.z), group.targets[task])
            everything = [*parameters, *network.heads[task].parameters()]
            gradients = torch.autograd.grad(
                loss, everything, materialize_grads=True, allow_unused=True, retain_graph=True
            )
            shared[task], own[task] = list(gradients[: len(parameters)]), list(gradients[len(parameters) :])
    return [shared[task] for task in sorted(shared)], [own[task] for task in sorted(own)]


def row_of(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


def applied_gradients(state: TrainState) -> Tensor:
    """(P,) the .grad of all shared parameters."""
    gradients = [parameter.grad for parameter in state.network.shared_parameters()]
    return row_of([gradient for gradient in gradients if gradient is not None])


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """The distance is small relative to the norm."""
    gap, length = (found.double() - expected.double()).norm(), expected.double().norm()
    assert gap <= tolerance * length, f"{gap / length:.1e} apart"


def assert_plain_gradients(state: TrainState, batch: Batch, tolerance: float) -> None:
    """Gradients of shared part and heads after a step equal those of one backward pass per task on a whole graph."""
    shared, own = plain_gradients(state, batch)
    rows = torch.stack([row_of(task) for task in shared])
    result, update = compute_gradients(state, batch, 0, 0)
    expected = update.weights.to(rows) @ rows if update.direction is None else update.direction
    assert_near(applied_gradients(state), expected, tolerance)
    if state.weighting.needs != "losses":
        # In double precision the weights are those of the plain Gramian; in single precision, rounding changes them.
        signal = Signal(result.losses, (rows @ rows.T).double(), 0, 0, generator_for(0, "method"), rows)
        plainly = state.weighting.step(signal, state.weighting_state)
        assert_near(update.weights, plainly.weights, 1e-7 if rows.dtype == torch.float64 else 1e-2)
        if plainly.direction is not None:
            assert_near(applied_gradients(state), plainly.direction, tolerance)
    scales = head_scales(state, update)
    for task, head in enumerate(state.network.heads):
        found = row_of([p.grad for p in head.parameters() if p.grad is not None])
        assert_near(found, scales[task] * row_of(own[task]), tolerance)


def head_scales(state: TrainState, update: Update) -> list[float]:
    if state.head_rule == "plain":
        return [1.0] * len(state.tasks)
    scales = update.weights if state.head_rule == "weighted" else update.head_weights
    assert scales is not None
    return scales.tolist()

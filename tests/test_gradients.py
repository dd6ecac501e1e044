"""The engine's gradients equal those of the plain way: one full backward pass per task over the whole graph."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.seeds import generator_for
from bench.engine.step import Trainee, make_trainee, observe, place, train_step
from bench.spec import RunSpec, resolve
from datasets import find
from datasets.contract import Batch, Group
from methods import ARCHITECTURES, WEIGHTINGS
from methods.contract import Signal, Update

CPU = torch.device("cpu")
PROBLEMS = ("digits", "rooms", "faces")


def prepared(
    data: str, data_root: Path, weighting: str, arch: str = "hps", **assignments: object
) -> tuple[Trainee, Batch]:
    """A float64 network with one batch."""
    settings = {"train.batch_size": 4, **assignments}
    spec: RunSpec = resolve(data, None, arch, weighting, 0, settings)
    folder = find(data, data_root)
    assert folder is not None
    splits = spec.info.read(folder, spec.data_settings)
    network = build_network(spec, CPU).double()  # type: ignore[attr-defined]
    batch = next(iter(training_batches(splits.train, spec.info, 4, generator_for(0, "test"), CPU)))
    batch = [Group(g.inputs.double(), {t: as_double(y) for t, y in g.targets.items()}) for g in batch]
    return make_trainee(spec, network), batch


def as_double(target: Tensor) -> Tensor:
    return target.double() if target.is_floating_point() else target


def plain_gradients(trainee: Trainee, batch: Batch) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Per task: gradients of its loss in the shared parameters and in its own head, on one whole graph."""
    network = copy.deepcopy(trainee.network)
    shared: list[list[Tensor]] = []
    own: list[list[Tensor]] = []
    for task in range(len(trainee.tasks)):
        (group,) = [group for group in batch if task in group.targets]
        readers = list(group.targets)
        features = network.features(group.inputs, readers)[readers.index(task)]
        loss = trainee.tasks[task].loss(network.heads[task](features.z), group.targets[task])
        parameters = network.shared_parameters()
        head = list(network.heads[task].parameters())
        gradients = torch.autograd.grad(loss, [*parameters, *head], materialize_grads=True, allow_unused=True)
        shared.append(list(gradients[: len(parameters)]))
        own.append(list(gradients[len(parameters) :]))
    return shared, own


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("data", PROBLEMS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_placed_gradients_are_the_plain_ones(data: str, arch: str, weighting: str, data_root: Path) -> None:
    if data == "faces" and arch == "normal" and weighting not in ("ew", "nash_mtl"):
        pytest.skip("forty tasks on the flow are shown with one weighting of each kind")
    trainee, batch = prepared(data, data_root, weighting, arch)
    shared, own = plain_gradients(trainee, batch)
    boundaries, losses = observe(trainee, batch, 0)
    rows = torch.stack([torch.cat([g.flatten() for g in task]) for task in shared])
    gramian = rows @ rows.T if trainee.weighting.needs != "losses" else None
    if gramian is not None:
        torch.testing.assert_close(trainee.shared.jacobian, rows, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(trainee.shared.gramian(), gramian, rtol=1e-10, atol=1e-14)
    jacobian = rows if trainee.weighting.needs == "jacobian" else None
    signal = Signal(losses, gramian, 0, 0, generator_for(0, "method"), jacobian)
    update = trainee.weighting.step(signal, trainee.state)
    place(trainee, boundaries, update)
    expected = update.weights @ rows if update.direction is None else update.direction
    torch.testing.assert_close(trainee.shared.flat, expected, rtol=1e-9, atol=1e-12)
    scales = head_scales(trainee, update)
    for task, head in enumerate(trainee.network.heads):
        for parameter, gradient in zip(head.parameters(), own[task], strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, scales[task] * gradient, rtol=1e-9, atol=1e-12)


def head_scales(trainee: Trainee, update: Update) -> list[float]:
    if trainee.head_rule == "plain":
        return [1.0] * len(trainee.tasks)
    scales = update.weights if trainee.head_rule == "weighted" else update.head_weights
    assert scales is not None
    return scales.tolist()


def test_every_parameter_is_optimised_once(data_root: Path) -> None:
    trainee, _ = prepared("digits", data_root, "ew", "normal")
    optimised = [
        id(p) for optimizer in trainee.optimizers.values() for g in optimizer.param_groups for p in g["params"]
    ]
    assert sorted(optimised) == sorted(id(p) for p in trainee.network.parameters())  # type: ignore[attr-defined]


@pytest.mark.parametrize(("rule", "factor"), [("plain", 1.0), ("weighted", 0.5)])
def test_a_run_may_force_one_rule_for_heads(rule: str, factor: float, data_root: Path) -> None:
    trainee, batch = prepared("digits", data_root, "uw", **{"heads.rule": rule})
    _, own = plain_gradients(trainee, batch)
    train_step(trainee, batch, 0, 0)
    parameter = next(trainee.network.heads[0].parameters())
    assert parameter.grad is not None
    torch.testing.assert_close(parameter.grad, factor * own[0][0])


def test_a_step_moves_every_kind_of_parameter(data_root: Path) -> None:
    for weighting in WEIGHTINGS:
        trainee, batch = prepared("digits", data_root, weighting, "normal")
        before = copy.deepcopy(trainee.network.state_dict())
        learned = {name: tensor.clone() for name, tensor in trainee.state.learned.items()}
        for step in range(2):
            train_step(trainee, batch, step, 0)
        for name, value in trainee.network.state_dict().items():
            assert not torch.equal(value, before[name]), (weighting, name)
        for name, tensor in trainee.state.learned.items():
            assert not torch.equal(tensor, learned[name]), (weighting, name)

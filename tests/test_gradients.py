"""The engine's gradients equal those of the plain way: one full backward pass per task over the whole graph."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.seeds import generator_for
from bench.engine.step import place_gradients, train_step
from bench.engine.train_state import TrainState, make_train_state
from bench.spec.resolve import RunSpec, resolve
from datasets import find
from datasets.contract import Batch, Group
from methods import ARCHITECTURES, WEIGHTINGS
from methods.contract import Signal, Update

CPU = torch.device("cpu")
PROBLEMS = ("digits", "rooms", "faces")


def prepared(
    data: str, data_root: Path, weighting: str, arch: str = "hps", double: bool = True, **assignments: object
) -> tuple[TrainState, Batch]:
    """A network, in float64 unless told otherwise, with one batch."""
    settings = {"train.batch_size": 4, **assignments}
    spec: RunSpec = resolve(data, architecture=arch, weighting=weighting, assignments=settings)
    folder = find(data, data_root)
    assert folder is not None
    splits = spec.info.read(folder, spec.settings.data)
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


def plain_gradients(train_state: TrainState, batch: Batch) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Per task: gradients of its loss in the shared parameters and in its own head, on one whole graph."""
    network = copy.deepcopy(train_state.network)
    parameters = network.shared_parameters()
    shared: dict[int, list[Tensor]] = {}
    own: dict[int, list[Tensor]] = {}
    for group in batch:
        readers = list(group.targets)
        for task, features in zip(readers, network.features(group.inputs, readers), strict=True):
            loss = train_state.tasks[task].loss(network.heads[task](features.z), group.targets[task])
            everything = [*parameters, *network.heads[task].parameters()]
            gradients = torch.autograd.grad(
                loss, everything, materialize_grads=True, allow_unused=True, retain_graph=True
            )
            shared[task], own[task] = list(gradients[: len(parameters)]), list(gradients[len(parameters) :])
    return [shared[task] for task in sorted(shared)], [own[task] for task in sorted(own)]


def row_of(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


def placed(train_state: TrainState) -> Tensor:
    """(P,) the shared gradients that the optimizer finds."""
    gradients = [parameter.grad for parameter in train_state.network.shared_parameters()]
    return row_of([gradient for gradient in gradients if gradient is not None])


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Relative to the length of the whole."""
    gap, length = (found.double() - expected.double()).norm(), expected.double().norm()
    assert gap <= tolerance * length, f"{gap / length:.1e} apart"


def assert_placed(train_state: TrainState, batch: Batch, tolerance: float) -> None:
    """What a step places, for shared part and heads, is what one backward pass per task on a whole graph gives."""
    shared, own = plain_gradients(train_state, batch)
    rows = torch.stack([row_of(task) for task in shared])
    outcome, update = place_gradients(train_state, batch, 0, 0)
    expected = update.weights.to(rows) @ rows if update.direction is None else update.direction
    assert_near(placed(train_state), expected, tolerance)
    if train_state.weighting.needs != "losses":
        # In double precision weights are those of the plain Gramian; in single precision, rounding moves them.
        signal = Signal(outcome.losses, (rows @ rows.T).double(), 0, 0, generator_for(0, "method"), rows)
        plainly = train_state.weighting.step(signal, train_state.weighting_state)
        assert_near(update.weights, plainly.weights, 1e-7 if rows.dtype == torch.float64 else 1e-2)
        if plainly.direction is not None:
            assert_near(placed(train_state), plainly.direction, tolerance)
    scales = head_scales(train_state, update)
    for task, head in enumerate(train_state.network.heads):
        found = row_of([p.grad for p in head.parameters() if p.grad is not None])
        assert_near(found, scales[task] * row_of(own[task]), tolerance)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("data", PROBLEMS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_placed_gradients_are_the_plain_ones(data: str, arch: str, weighting: str, data_root: Path) -> None:
    if data == "faces" and arch == "normal" and weighting not in ("ew", "nash_mtl"):
        pytest.skip("forty tasks on the flow are shown with one weighting of each kind")
    train_state, batch = prepared(data, data_root, weighting, arch)
    assert_placed(train_state, batch, 1e-10)


@pytest.mark.parametrize("arch", ["hps", "normal"])
@pytest.mark.parametrize("data", PROBLEMS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_in_single_precision_too(data: str, arch: str, weighting: str, data_root: Path) -> None:
    if data == "faces" and weighting not in ("ew", "mgda", "graddrop"):
        pytest.skip("forty tasks are shown with one weighting of each kind")
    train_state, batch = prepared(data, data_root, weighting, arch, double=False)
    assert_placed(train_state, batch, 1e-5)


BATCH_NORMS = {"digits": "resnet18", "rooms": "resnet18_dilated", "faces": "resnet18_quarters"}


@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-10), (False, 1e-5)])
@pytest.mark.parametrize("arch", ["hps", "normal"])
@pytest.mark.parametrize("data", PROBLEMS)
def test_with_batch_norm_in_training_mode(
    data: str, arch: str, double: bool, tolerance: float, data_root: Path
) -> None:
    if data == "faces" and arch == "normal":
        pytest.skip("a flow of 2048 features and forty tasks takes minutes the plain way")
    for weighting in ("ew", "cagrad", "graddrop") if data == "digits" else ("mgda",):
        settings = {"backbone.name": BATCH_NORMS[data], "backbone.weights": "none", "train.batch_size": 2}
        train_state, batch = prepared(data, data_root, weighting, arch, double, **settings)
        if data != "rooms":
            batch = [
                Group(group.inputs.tile(1, 1, 2, 2), group.targets) for group in batch
            ]  # a map of one pixel has no variance
        assert_placed(train_state, batch, tolerance)


def head_scales(train_state: TrainState, update: Update) -> list[float]:
    if train_state.head_rule == "plain":
        return [1.0] * len(train_state.tasks)
    scales = update.weights if train_state.head_rule == "weighted" else update.head_weights
    assert scales is not None
    return scales.tolist()


def test_every_parameter_is_optimised_once(data_root: Path) -> None:
    train_state, _ = prepared("digits", data_root, "ew", "normal")
    optimised = [
        id(p) for optimizer in train_state.optimizers.values() for g in optimizer.param_groups for p in g["params"]
    ]
    assert sorted(optimised) == sorted(id(p) for p in train_state.network.parameters())  # type: ignore[attr-defined]


@pytest.mark.parametrize(("rule", "factor"), [("plain", 1.0), ("weighted", 0.5)])
def test_a_run_may_force_one_rule_for_heads(rule: str, factor: float, data_root: Path) -> None:
    train_state, batch = prepared("digits", data_root, "uw", **{"heads.rule": rule})
    _, own = plain_gradients(train_state, batch)
    train_step(train_state, batch, 0, 0)
    parameter = next(train_state.network.heads[0].parameters())
    assert parameter.grad is not None
    torch.testing.assert_close(parameter.grad, factor * own[0][0])


def test_a_step_moves_every_kind_of_parameter(data_root: Path) -> None:
    for weighting in WEIGHTINGS:
        train_state, batch = prepared("digits", data_root, weighting, "normal")
        before = copy.deepcopy(train_state.network.state_dict())
        learned = {name: tensor.clone() for name, tensor in train_state.weighting_state.learned.items()}
        for step in range(2):
            train_step(train_state, batch, step, 0)
        for name, value in train_state.network.state_dict().items():
            assert not torch.equal(value, before[name]), (weighting, name)
        for name, tensor in train_state.weighting_state.learned.items():
            assert not torch.equal(tensor, learned[name]), (weighting, name)

"""The engine's gradients equal those of plain backpropagation: one backward pass per task over the whole graph."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from plain_gradients import ONE_BATCH, PROBLEMS, assert_plain_gradients, plain_gradients, prepared

from bench.engine.step import train_step
from datasets.contract import Group
from methods import ARCHITECTURES, WEIGHTINGS
from methods.contract import batches_of

# One weighting for each combination of what it needs and how it weights heads.
_MADE = {name: WEIGHTINGS[name].factory() for name in reversed(ONE_BATCH)}
# Single-task networks allow constant weights only; tests/test_single_task.py is about them.
SHARED = [name for name, info in ARCHITECTURES.items() if info.factory().shares_parameters]
KINDS = list({(made.needs, made.heads): name for name, made in _MADE.items()}.values())


@pytest.mark.parametrize(
    "data", ["digits", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rooms", "faces"))]
)
def test_gradients_equal_plain_ones(data: str, data_root: Path) -> None:
    for arch in SHARED:
        # Plain gradients of forty tasks take long.
        for weighting in KINDS if data != "faces" or arch == "hps" else ["ew", "nash_mtl"]:
            state, batch = prepared(data, data_root, weighting, arch)
            assert_plain_gradients(state, batch, 1e-10)


@pytest.mark.parametrize("data", PROBLEMS)
def test_gradients_equal_plain_ones_in_single_precision(data: str, data_root: Path) -> None:
    for arch in ("hps", "normal"):
        for weighting in KINDS if data != "faces" else ["ew", "mgda", "graddrop"]:
            state, batch = prepared(data, data_root, weighting, arch, double=False)
            assert_plain_gradients(state, batch, 1e-5)


def test_gradients_of_every_weighting_equal_plain_ones(data_root: Path) -> None:
    for weighting in ONE_BATCH:
        for arch in ("hps", "normal"):
            state, batch = prepared("digits", data_root, weighting, arch)
            assert_plain_gradients(state, batch, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("arch", SHARED)
@pytest.mark.parametrize("data", PROBLEMS)
@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-10), (False, 1e-5)])
def test_all_combinations(data: str, arch: str, double: bool, tolerance: float, data_root: Path) -> None:
    for weighting in ONE_BATCH if (data, arch) != ("faces", "normal") else ["ew", "mgda", "nash_mtl", "graddrop"]:
        state, batch = prepared(data, data_root, weighting, arch, double)
        assert_plain_gradients(state, batch, tolerance)


BATCH_NORMS = {"digits": "resnet18", "rooms": "resnet18_dilated", "faces": "resnet18_quarters"}


def check_with_batch_norm(data: str, arch: str, double: bool, data_root: Path) -> None:
    for weighting in ("ew", "cagrad", "graddrop") if data == "digits" else ("mgda",):
        settings = {"backbone.name": BATCH_NORMS[data], "backbone.weights": "none", "train.batch_size": 2}
        state, batch = prepared(data, data_root, weighting, arch, double, **settings)
        if data != "rooms":  # 64 pixels wide: a last map of one pixel has no variance
            copies = 64 // batch[0].inputs.shape[-1]
            batch = [Group(group.inputs.tile(1, 1, copies, copies), group.targets) for group in batch]
        assert_plain_gradients(state, batch, 1e-10 if double else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize(
    ("data", "arch"),
    # Not faces with a flow of 2048 features and forty tasks, which takes minutes by plain backpropagation.
    [("digits", "hps"), ("digits", "normal"), ("rooms", "hps"), ("rooms", "normal"), ("faces", "hps")],
)
def test_every_problem_with_batch_norm(data: str, arch: str, double: bool, data_root: Path) -> None:
    check_with_batch_norm(data, arch, double, data_root)


def test_every_parameter_is_optimised_once(data_root: Path) -> None:
    state, _ = prepared("digits", data_root, "ew", "normal")
    optimised = [id(p) for optimizer in state.optimizers.values() for g in optimizer.param_groups for p in g["params"]]
    assert sorted(optimised) == sorted(id(p) for p in state.network.parameters())  # type: ignore[attr-defined]


@pytest.mark.parametrize(("rule", "factor"), [("plain", 1.0), ("weighted", 0.5)])
def test_a_run_may_force_one_rule_for_heads(rule: str, factor: float, data_root: Path) -> None:
    state, batch = prepared("digits", data_root, "uw", **{"heads.rule": rule})
    _, own = plain_gradients(state, batch)
    train_step(state, batch, 0, 0)
    parameter = next(state.network.heads[0].parameters())
    assert parameter.grad is not None
    torch.testing.assert_close(parameter.grad, factor * own[0][0])


def test_a_step_moves_every_kind_of_parameter(data_root: Path) -> None:
    for weighting in WEIGHTINGS:
        state, batch = prepared("digits", data_root, weighting, "normal")
        before = copy.deepcopy(state.network.state_dict())
        others = [batch] * (batches_of(state.weighting) - 1)
        weights = torch.stack([train_step(state, batch, step, 0, others=others).weights for step in range(2)])
        # A weighted head without any weight rests.
        resting = {f"heads.{task}." for task in range(weights.shape[1]) if not weights[:, task].any()}
        for name, value in state.network.state_dict().items():
            assert torch.equal(value, before[name]) == name.startswith(tuple(resting)), (weighting, name)

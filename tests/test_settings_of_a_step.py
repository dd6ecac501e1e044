"""Settings that change how a step is computed: the gradients they give, what they cost, and what they refuse."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_gradients import (
    applied_gradients,
    assert_near,
    assert_plain_gradients,
    plain_gradients,
    prepared,
    row_of,
)
from torch import Tensor, nn

from bench.engine.checkpoint import Origin, save_checkpoint, start_or_resume
from bench.engine.heads import forward_shared, heads_forward_backward
from bench.engine.history import History, curve_columns
from bench.engine.step import compute_gradients, train_step
from bench.engine.train_state import TrainState
from bench.spec.resolve import resolve
from bench.spec.settings import SpecError
from datasets.contract import Batch
from methods.architectures.backbones import BACKBONES, last_block, make_encoder
from methods.rows import gramian_of


class Counted:
    """Counts backward passes through the shared part, by a hook on the first layer's weight."""

    def __init__(self, state: TrainState) -> None:
        self.passes = 0
        first = state.network.shared_parameters()[0]
        first.register_hook(self._count)

    def _count(self, gradient: Tensor) -> None:
        self.passes += 1


# The update interval.


def test_weights_are_updated_every_few_steps(data_root: Path) -> None:
    state, batch = prepared("rooms", data_root, "cagrad", **{"weighting.every": 3})
    counted = Counted(state)
    weights, passes = [], []
    for step in range(6):
        before = counted.passes
        weights.append(train_step(state, batch, step, 0).weights)
        passes.append(counted.passes - before)
    assert passes == [3, 1, 1, 3, 1, 1]
    for first in (0, 3):
        assert all(torch.equal(weights[first], weights[first + after]) for after in (1, 2))
    assert not torch.equal(weights[0], weights[3])


@pytest.mark.parametrize("arch", ["hps", "normal"])
def test_steps_between_updates_use_the_cached_weights(arch: str, data_root: Path) -> None:
    state, batch = prepared("digits", data_root, "imtl", arch, **{"weighting.every": 4})
    train_step(state, batch, 0, 0)
    shared, own = plain_gradients(state, batch)
    weights = state.cached_weights["weights"]
    _, update = compute_gradients(state, batch, 1, 0)
    assert torch.equal(update.weights, weights)
    assert_near(applied_gradients(state), weights @ torch.stack([row_of(task) for task in shared]), 1e-10)
    scales = {"plain": torch.ones(4), "weighted": weights, "own": update.head_weights}[state.head_rule]
    assert scales is not None
    for task, head in enumerate(state.network.heads):
        found = row_of([p.grad for p in head.parameters() if p.grad is not None])
        assert_near(found, scales[task] * row_of(own[task]), 1e-10)


def test_cached_weights_survive_an_interruption(data_root: Path, tmp_path: Path) -> None:
    path, every = tmp_path / "checkpoint.pt", {"weighting.every": 3}
    spec = resolve("digits", "nash_mtl", assignments={"train.batch_size": 4, **every})
    whole, batch = prepared("digits", data_root, "nash_mtl", **every)
    for step in range(2):
        train_step(whole, batch, step, 0)
    origin = Origin(spec, {"train": "the same"}, torch.device("cpu"), threads=1, epoch_steps=2)
    save_checkpoint(path, origin, whole, History(epochs=1, steps=2, curve=[[0.0] * len(curve_columns(spec))]))
    start = start_or_resume(path, origin, lambda: prepared("digits", data_root, "nash_mtl", **every)[0])
    assert start.history.epochs == 1 and not start.notes
    resumed = start.state
    for step in range(2, 5):
        assert torch.equal(train_step(whole, batch, step, 0).weights, train_step(resumed, batch, step, 0).weights)
    left, right = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


# Which gradients form the Gramian.


@pytest.mark.parametrize(
    ("data", "arch"), [("digits", "hps"), ("digits", "normal"), ("rooms", "hps_extra"), ("faces", "hps")]
)
def test_gramian_of_the_last_block(data: str, arch: str, data_root: Path) -> None:
    state, batch = prepared(data, data_root, "mgda", arch, **{"weighting.grad_space": "last_block"})
    last = {id(parameter) for parameter in state.network.last_block_parameters()}
    everything = state.network.shared_parameters()
    assert 0 < len(last) < len(everything) and last < {id(parameter) for parameter in everything}
    shared, _ = plain_gradients(state, batch)
    rows = torch.stack([row_of(task) for task in shared])
    fewer = torch.stack([row_of([g for p, g in zip(everything, t, strict=True) if id(p) in last]) for t in shared])
    result, _ = compute_gradients(state, batch, 0, 0)
    assert_near(result.weights, weights_of(state, fewer @ fewer.T, result.losses), 1e-8)
    assert_near(applied_gradients(state), result.weights @ rows, 1e-10)


@pytest.mark.parametrize("data", ["rooms", "faces"])
def test_gramian_of_the_representation(data: str, data_root: Path) -> None:
    state, batch = prepared(data, data_root, "mgda", **{"weighting.grad_space": "representation"})
    counted = Counted(state)
    shared = forward_shared(state.network, batch)
    heads = heads_forward_backward(state.network, state.tasks, shared.heads)
    gramian = gramian_of(torch.stack([head.gradient.flatten() for head in heads]))
    rows, _ = plain_gradients(state, batch)
    result, _ = compute_gradients(state, batch, 0, 0)
    assert counted.passes == 1
    assert_near(result.weights, weights_of(state, gramian, result.losses), 1e-8)
    assert_near(applied_gradients(state), result.weights @ torch.stack([row_of(task) for task in rows]), 1e-10)


def weights_of(state: TrainState, gramian: Tensor, losses: Tensor) -> Tensor:
    from methods.contract import Signal

    signal = Signal(losses, gramian, 0, 0, torch.Generator().manual_seed(0))
    return state.weighting.step(signal, state.weighting_state).weights


@pytest.mark.parametrize("name", BACKBONES)
def test_the_last_block_of_every_encoder(name: str) -> None:
    encoder, _ = make_encoder(name, "none", bottleneck=False)
    block = last_block(encoder)
    weights = [module for module in block.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(weights) == {"small": 1, "linear": 1, "resnet18": 2, "resnet50": 3}[name.split("_")[0]]
    assert next(reversed(list(encoder.parameters()))) is next(reversed(list(block.parameters())))


@pytest.mark.parametrize(
    ("data", "method", "settings", "message"),
    [
        ("digits", "ew", {"weighting.every": 2}, "weighting.every: expected 1 with ew, which sees no Gramian, found 2"),
        ("digits", "mgda", {"weighting.every": 0}, "must be ≥ 1, found 0"),
        ("digits", "mgda", {"weighting.grad_space": "representation"}, "where each task has its own input"),
        ("digits", "mgda", {"weighting.grad_space": "all"}, "weighting.grad_space"),
        ("digits", "mgda", {"train.accumulate": 5}, "expected a divisor of train.batch_size = 64, found 5"),
        ("digits", "mgda", {"train.accumulate": 2, "train.cosines_every": 3}, "expected 1 with train.cosines_every"),
        ("digits", "mgda", {"train.accumulate": 2, "weighting.grad_space": "last_block"}, "weighting.grad_space"),
        ("digits", "mgda", {"train.clip_norm": -1}, "must be ≥ 0, found -1"),
        ("digits", "mgda", {"compute.precision": "fp8"}, "compute.precision"),
    ],
)
def test_what_makes_no_sense_is_refused(data: str, method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        resolve(data, method, assignments=settings)


def test_refused_where_tasks_do_not_share_features_or_every_row_is_needed() -> None:
    with pytest.raises(SpecError, match="own features"):
        resolve(
            "faces", architecture="normal", weighting="mgda", assignments={"weighting.grad_space": "representation"}
        )
    with pytest.raises(SpecError, match="whole Jacobian"):
        resolve("faces", weighting="graddrop", assignments={"weighting.every": 2})


# Micro-batches.


@pytest.mark.parametrize(
    ("weighting", "data", "arch"),
    [
        ("ew", "digits", "hps"),
        ("gls", "faces", "hps"),
        ("mgda", "digits", "normal"),
        ("mgda", "faces", "hps"),
        ("graddrop", "digits", "hps"),
        ("ew", "digits", "normal"),
    ],
)
def test_micro_batches_give_the_step_of_the_whole_batch(weighting: str, data: str, arch: str, data_root: Path) -> None:
    found = []
    for count in (1, 4):
        state, batch = prepared(data, data_root, weighting, arch, **{"train.accumulate": count})
        result, _ = compute_gradients(state, batch, 0, 0)
        heads = [p.grad for p in state.network.heads.parameters() if p.grad is not None]
        positions = [p.grad for p in state.network.position_parameters() if p.grad is not None]
        found.append((result.losses, result.weights, applied_gradients(state), row_of([*heads, *positions])))
    for whole, split in zip(*found, strict=True):
        assert_near(split, whole, 1e-9)


def test_one_micro_batch_runs_at_a_time(data_root: Path) -> None:
    state, batch = prepared("rooms", data_root, "ew", **{"train.accumulate": 4})
    seen: list[int] = []
    state.network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    train_step(state, batch, 0, 0)
    assert set(seen) == {len(batch[0].inputs) // 4}


# Clipping.


@pytest.mark.parametrize("weighting", ["ew", "nash_mtl", "pcgrad"])
def test_one_clip_for_all_methods(weighting: str, data_root: Path) -> None:
    norms = []
    for clip in (0.0, 1e-3):
        state, batch = prepared("rooms", data_root, weighting, "normal", **{"train.clip_norm": clip})
        before = [p.detach().clone() for p in state.network.position_parameters()]
        train_step(state, batch, 0, 0)
        whole = [p.grad for group in state.optimizers["network"].param_groups for p in group["params"]]
        norms.append(row_of(whole).norm())
        moved = [p.detach() for p in state.network.position_parameters()]
        assert not all(torch.equal(a, b) for a, b in zip(before, moved, strict=True))
    assert norms[0] > 1e-3 and norms[1] == pytest.approx(1e-3, rel=1e-2)


# Precision and kernels.


@pytest.mark.parametrize("data", ["digits", "rooms", "faces"])
@pytest.mark.parametrize("weighting", ["ew", "mgda", "graddrop"])
def test_channels_last_and_batched_change_no_gradient(data: str, weighting: str, data_root: Path) -> None:
    settings = {"compute.channels_last": True, "compute.backward": "batched"}
    state, batch = prepared(data, data_root, weighting, **settings)
    convolutions = [m for m in state.network.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)
    expected, _ = prepared(data, data_root, weighting)
    for one in (state, expected):
        train_step(one, batch, 0, 0)
    if weighting != "graddrop":  # its random draws go to other entries in another memory layout
        assert_near(parameters_of(state), parameters_of(expected), 1e-9)


def parameters_of(state: TrainState) -> Tensor:
    return row_of([value.contiguous() for value in state.network.state_dict().values()])


@pytest.mark.parametrize("arch", ["hps", "normal"])
@pytest.mark.parametrize("weighting", ["ew", "mgda"])
def test_half_precision_is_for_forward_passes_only(weighting: str, arch: str, data_root: Path) -> None:
    rough, batch = prepared("faces", data_root, weighting, arch, double=False, **{"compute.precision": "bf16"})
    exact, _ = prepared("faces", data_root, weighting, arch, double=False)
    kinds: set[torch.dtype] = set()
    first = next(m for m in rough.network.modules() if isinstance(m, nn.Conv2d))
    first.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    seen = [compute_gradients(state, batch, 0, 0)[0] for state in (rough, exact)]
    assert kinds == {torch.bfloat16}
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in rough.network.shared_parameters())
    assert_near(seen[0].losses, seen[1].losses, 0.02)
    assert not torch.equal(seen[0].losses, seen[1].losses)
    if weighting == "ew":
        assert_near(applied_gradients(rough), applied_gradients(exact), 0.2)


@pytest.mark.slow
def test_a_compiled_encoder_gives_the_same_step(data_root: Path) -> None:
    compiled, batch = prepared("digits", data_root, "mgda", double=False, **{"compute.compile": True})
    assert_same_gradients(compiled, batch, data_root)


def assert_same_gradients(compiled: TrainState, batch: Batch, data_root: Path) -> None:
    plain, _ = prepared("digits", data_root, "mgda", double=False)
    names = list(compiled.network.state_dict())
    assert names == list(plain.network.state_dict())
    for state in (compiled, plain):
        compute_gradients(state, batch, 0, 0)
    assert_near(applied_gradients(compiled), applied_gradients(plain), 1e-3)


def test_settings_together(data_root: Path) -> None:
    settings = {"weighting.every": 2, "weighting.grad_space": "last_block", "compute.channels_last": True}
    state, batch = prepared("rooms", data_root, "cagrad", "normal", **settings)
    before = copy.deepcopy(state.network.state_dict())
    for step in range(3):
        train_step(state, batch, step, 0)
    assert any(not torch.equal(before[name], value) for name, value in state.network.state_dict().items())
    assert_plain_gradients(
        prepared("rooms", data_root, "cagrad", "normal", **{"compute.channels_last": True})[0], batch, 1e-10
    )

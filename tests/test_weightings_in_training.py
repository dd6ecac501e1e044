"""Weightings in a training step: the post-step hook, and errors before and after the weighting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from signals import LOSSES
from torch import Tensor
from training import prepared

from bench.engine.backward import losses_now
from bench.engine.step import train_step
from bench.spec.resolve import resolve
from bench.spec.settings import SpecError
from methods import WEIGHTINGS
from methods.contract import (
    Diverged,
    Needs,
    PostStepHook,
    Signal,
    State,
    Update,
    Weighting,
    WeightingInfo,
    batches_of,
)
from methods.weightings.famo import FAMO


@pytest.mark.parametrize(("data", "arch"), [("digits", "hps"), ("digits", "normal"), ("faces", "hps")])
def test_the_post_step_hook_gets_the_losses_of_the_same_batch(data: str, arch: str, data_root: Path) -> None:
    """The losses after a step are those before the next step on the same batch."""
    state, batch = prepared("famo", data_root, data, arch)
    first = train_step(state, batch, 0, 0)
    torch.testing.assert_close(state.weighting_state.memory["losses"], first.losses)
    memory = state.weighting_state.memory
    assert int(memory["steps"]) == 1 and memory["logits"].abs().max() > 0
    now, _ = losses_now(state, [batch])
    assert not now.requires_grad and not torch.equal(now, first.losses)
    torch.testing.assert_close(train_step(state, batch, 1, 0).losses, now, rtol=1e-5, atol=1e-6)


def test_only_weightings_with_a_post_step_hook_pay_for_it(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def losses_now(state: object, batches: object) -> tuple[Tensor, None]:
        calls.append(batches)
        return LOSSES, None

    monkeypatch.setattr("bench.engine.step.losses_now", losses_now)
    for name in WEIGHTINGS:
        state, batch = prepared(name, data_root)
        calls.clear()
        train_step(state, batch, 0, 0, others=[batch] * (batches_of(state.weighting) - 1))
        assert bool(calls) == isinstance(state.weighting, PostStepHook) == (name == "famo"), name


@dataclass(frozen=True)
class GramianFAMO(FAMO):
    """A weighting that reads a Gramian and learns from the losses after a step."""

    needs: ClassVar[Needs] = "gramian"


def test_an_update_interval_and_a_post_step_hook_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between updates the hook would learn from steps that its weights didn't make."""
    monkeypatch.setitem(WEIGHTINGS, "gramian_famo", WeightingInfo("Mine", GramianFAMO, "no paper"))
    resolve("digits", weighting="gramian_famo")
    with pytest.raises(SpecError, match=r"weighting\.every: expected 1 with gramian_famo, which learns"):
        resolve("digits", weighting="gramian_famo", assignments={"weighting.every": 2})


@pytest.mark.parametrize("name", ["ew", "mgda", "graddrop", "famo"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_ends_the_run_before_it_is_weighted(
    name: str, bad: float, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, batch = prepared(name, data_root)
    monkeypatch.setattr(type(state.weighting), "step", lambda *_: pytest.fail("a weighting saw it"))
    with torch.no_grad():
        next(state.network.heads[1].parameters()).fill_(bad)
    with pytest.raises(Diverged, match=r"loss of task .* is (nan|inf) at step 7"):
        train_step(state, batch, 7, 0)


def test_head_weights_that_are_not_finite_end_the_run_before_anything_moves(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, batch = prepared("imtl", data_root)
    step = type(state.weighting).step

    def with_bad_head(weighting: Weighting, signal: Signal, memory: State) -> Update:
        update = step(weighting, signal, memory)
        assert update.head_weights is not None
        return replace(update, head_weights=update.head_weights * float("nan"))

    monkeypatch.setattr(type(state.weighting), "step", with_bad_head)
    before = [parameter.detach().clone() for parameter in state.network.heads.parameters()]
    with pytest.raises(Diverged, match=r"weight of the head of task .* is nan at step 2"):
        train_step(state, batch, 2, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, state.network.heads.parameters(), strict=True))


def test_losses_that_are_not_finite_after_a_step_end_the_run(data_root: Path) -> None:
    state, batch = prepared("famo", data_root)
    state.optimizers["network"].param_groups[0]["lr"] = 1e30
    with pytest.raises(Diverged, match=r"loss after the step of task .* at step 3"):
        train_step(state, batch, 3, 0)

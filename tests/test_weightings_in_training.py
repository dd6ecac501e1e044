"""Weightings in a training step: who looks back, and what never reaches any of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from signals import LOSSES
from training import prepared

from bench.engine.backward import losses_now
from bench.engine.step import train_step
from methods import WEIGHTINGS
from methods.contract import Diverged, PostStepHook


@pytest.mark.parametrize(("data", "arch"), [("digits", "hps"), ("digits", "normal"), ("faces", "hps")])
def test_the_engine_looks_back_on_the_same_batch(data: str, arch: str, data_root: Path) -> None:
    """The losses after a step are those that the next step on the same batch sees before it."""
    train_state, batch = prepared("famo", data_root, data, arch)
    first = train_step(train_state, batch, 0, 0)
    torch.testing.assert_close(train_state.weighting_state.memory["losses"], first.losses)
    assert (
        int(train_state.weighting_state.memory["steps"]) == 1
        and train_state.weighting_state.memory["logits"].abs().max() > 0
    )
    now = losses_now(train_state, [batch])
    assert not now.requires_grad and not torch.equal(now, first.losses)
    torch.testing.assert_close(train_step(train_state, batch, 1, 0).losses, now, rtol=1e-5, atol=1e-6)


def test_only_weightings_that_look_back_pay_for_it(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    monkeypatch.setattr("bench.engine.step.losses_now", lambda train_state, parts: looked.append(parts) or LOSSES)
    for name in WEIGHTINGS:
        train_state, batch = prepared(name, data_root)
        looked.clear()
        train_step(train_state, batch, 0, 0)
        assert bool(looked) == isinstance(train_state.weighting, PostStepHook) == (name == "famo"), name


@pytest.mark.parametrize("name", ["ew", "mgda", "graddrop", "famo"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_ends_the_run_before_it_is_weighted(
    name: str, bad: float, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_state, batch = prepared(name, data_root)
    monkeypatch.setattr(type(train_state.weighting), "step", lambda *_: pytest.fail("a weighting saw it"))
    with torch.no_grad():
        next(train_state.network.heads[1].parameters()).fill_(bad)
    with pytest.raises(Diverged, match=r"loss of task .* is (nan|inf) at step 7"):
        train_step(train_state, batch, 7, 0)


def test_losses_that_are_not_finite_after_a_step_end_the_run(data_root: Path) -> None:
    train_state, batch = prepared("famo", data_root)
    train_state.optimizers["network"].param_groups[0]["lr"] = 1e30
    with pytest.raises(Diverged, match=r"loss after the move of task .* at step 3"):
        train_step(train_state, batch, 3, 0)

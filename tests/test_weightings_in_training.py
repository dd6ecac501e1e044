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
from methods.contract import Diverged, LooksBack


@pytest.mark.parametrize(("data", "arch"), [("digits", "hps"), ("digits", "normal"), ("faces", "hps")])
def test_the_engine_looks_back_on_the_same_batch(data: str, arch: str, data_root: Path) -> None:
    """The losses after a step are those that the next step on the same batch sees before it."""
    trainee, batch = prepared("famo", data_root, data, arch)
    first = train_step(trainee, batch, 0, 0)
    torch.testing.assert_close(trainee.state.memory["losses"], first.losses)
    assert int(trainee.state.memory["steps"]) == 1 and trainee.state.memory["logits"].abs().max() > 0
    now = losses_now(trainee, [batch])
    assert not now.requires_grad and not torch.equal(now, first.losses)
    torch.testing.assert_close(train_step(trainee, batch, 1, 0).losses, now, rtol=1e-5, atol=1e-6)


def test_only_weightings_that_look_back_pay_for_it(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    monkeypatch.setattr("bench.engine.step.losses_now", lambda trainee, parts: looked.append(parts) or LOSSES)
    for name in WEIGHTINGS:
        trainee, batch = prepared(name, data_root)
        looked.clear()
        train_step(trainee, batch, 0, 0)
        assert bool(looked) == isinstance(trainee.weighting, LooksBack) == (name == "famo"), name


@pytest.mark.parametrize("name", ["ew", "mgda", "graddrop", "famo"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_ends_the_run_before_it_is_weighted(
    name: str, bad: float, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainee, batch = prepared(name, data_root)
    monkeypatch.setattr(type(trainee.weighting), "step", lambda *_: pytest.fail("a weighting saw it"))
    with torch.no_grad():
        next(trainee.network.heads[1].parameters()).fill_(bad)
    with pytest.raises(Diverged, match=r"loss of task .* is (nan|inf) at step 7"):
        train_step(trainee, batch, 7, 0)


def test_losses_that_are_not_finite_after_a_step_end_the_run(data_root: Path) -> None:
    trainee, batch = prepared("famo", data_root)
    trainee.optimizers["network"].param_groups[0]["lr"] = 1e30
    with pytest.raises(Diverged, match=r"loss after the move of task .* at step 3"):
        train_step(trainee, batch, 3, 0)

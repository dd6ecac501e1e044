"""What a step leaves on an accelerator is checked at the end of the epoch, before anything is saved: the record of a
diverged run is that of the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pretend.counts import counting
from pretend.device import DEVICE, available
from training import prepared

from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.engine.step import train_step
from bench.records.record import Record
from bench.records.store import CHECKPOINT
from bench.spec.resolve import resolve
from datasets import find

CPU = torch.device("cpu")


def run(method: str, data_root: Path, folder: Path, device: torch.device, **settings: object) -> Record:
    spec = resolve("digits", method, assignments={"train.epochs": 2, **settings})
    source = find("digits", data_root)
    assert source is not None
    return train(spec, RunContext(source, folder, device, 1), lambda _: None)


@pytest.mark.parametrize("method", ["ew", "uw", "cagrad"])
def test_a_diverged_run_says_on_an_accelerator_what_it_says_on_the_cpu(
    method: str, data_root: Path, tmp_path: Path
) -> None:
    here = run(method, data_root, tmp_path / "cpu", CPU, **{"train.lr": 1e30})
    with available():
        there = run(method, data_root, tmp_path / "pretend", DEVICE, **{"train.lr": 1e30})
    assert here.status == there.status == "diverged"
    assert (there.reason, there.steps, there.epochs) == (here.reason, here.steps, here.epochs)
    assert not there.test and not (tmp_path / "pretend" / CHECKPOINT).exists()


def test_a_step_that_needs_losses_only_neither_waits_nor_checks(data_root: Path) -> None:
    with available():
        state, batch = prepared("ew", data_root)
        state.network.heads[0].bias.data.fill_(torch.nan)  # type: ignore[union-attr, operator]
        with pytest.raises(ArithmeticError, match="loss of task plain is nan at step 0"):
            train_step(state, batch, 0, 0)
        away, batch = prepared("ew", data_root, device=DEVICE)
        away.network.heads[0].bias.data.fill_(torch.nan)  # type: ignore[union-attr, operator]
        with counting() as counts:
            result = train_step(away, batch, 0, 0)
        assert counts().waits == 0 and result.losses.device == DEVICE
        assert result.losses.isnan().tolist() == [True, False, False, False]

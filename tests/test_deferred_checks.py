"""What a step leaves on an accelerator is checked at the end of the epoch, before anything is saved: the record of a
diverged run is that of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pretend.counts import counting
from pretend.device import DEVICE, available
from synthetic_splits import random_splits
from training import prepared

from bench.engine import epoch
from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.engine.step import train_step
from bench.engine.train_state import TrainState
from bench.records.record import Record
from bench.records.store import CHECKPOINT
from bench.spec.resolve import resolve
from datasets import DATASETS, find

CPU = torch.device("cpu")


def run(
    method: str, data_root: Path, folder: Path, device: torch.device, arch: str | None = None, **settings: object
) -> Record:
    weighting = None if arch is None else method
    spec = resolve(
        "digits", method, architecture=arch, weighting=weighting, assignments={"train.epochs": 2, **settings}
    )
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


def nan_bias(state: TrainState) -> None:
    """Makes the loss of the first task NaN."""
    state.network.heads[0].bias.data.fill_(torch.nan)  # type: ignore[union-attr, operator]


def infinite_steps(state: TrainState) -> None:
    """Makes the losses after the step NaN."""
    state.optimizers["network"].param_groups[0]["lr"] = float("inf")


def outcome(record: Record, folder: Path) -> dict[str, Any]:
    """What a diverged run leaves, without times."""
    files = {path.name: path.read_text() for path in folder.glob("*.csv") if path.name != "curve.csv"}
    names = ("status", "reason", "steps", "epochs", "solver_fallbacks", "field_evaluations")
    return {**{name: getattr(record, name) for name in names}, "files": files}


STEPS = 3  # per epoch, of two epochs


@pytest.mark.parametrize(
    ("method", "settings", "spoil", "at"),
    [
        pytest.param("famo", {}, infinite_steps, 1, marks=pytest.mark.slow),
        ("famo", {}, infinite_steps, 2 * STEPS - 1),
        ("ew", {}, nan_bias, 2 * STEPS - 1),
        pytest.param("log_loss", {}, nan_bias, 1, marks=pytest.mark.slow),
        ("go4align", {"train.cosines_every": 1}, nan_bias, 4),
        ("mgda", {"weighting.every": 2}, nan_bias, 1),
        pytest.param("ew", {"arch": "normal", "arch.position_form": "constant"}, nan_bias, 1, marks=pytest.mark.slow),
        ("ew", {"arch": "normal", "arch.updates": "alternating"}, nan_bias, 1),
    ],
)
def test_a_run_ends_at_the_step_and_with_the_message_of_the_cpu(
    method: str,
    settings: dict[str, Any],
    spoil: Callable[[TrainState], None],
    at: int,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    splits = random_splits(DATASETS["digits"])
    monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], read=lambda *_: splits))

    def spoiled(state: TrainState, batch: Any, step: int, *args: Any, **options: Any) -> Any:
        if step == at:
            spoil(state)
        return train_step(state, batch, step, *args, **options)

    monkeypatch.setattr(epoch, "train_step", spoiled)
    found = []
    for device in (CPU, DEVICE):
        folder = tmp_path / device.type
        with available():
            record = run(method, data_root, folder, device, **{"train.batch_size": 8, "arch": "hps", **settings})
        assert record.status == "diverged" and record.steps == at and not record.test
        found.append(outcome(record, folder))
    assert found[1] == found[0]

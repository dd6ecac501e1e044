"""STL: one run trains m networks as m runs would, and selects the epoch of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from synthetic_splits import random_splits
from torch import Tensor

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.checkpoint_file import read_content
from bench.engine.context import RunContext
from bench.engine.heads import forward_heads, forward_shared
from bench.engine.history import part_of_task
from bench.engine.loop import train
from bench.engine.seeds import generator_for
from bench.engine.step import train_step
from bench.engine.train_state import make_train_state
from bench.forecasting.counting import count_step
from bench.records.record import Record
from bench.records.store import CHECKPOINT, CURVE
from bench.spec.resolve import RunSpec, resolve
from bench.spec.settings import SpecError
from datasets import DATASETS
from methods import WEIGHTINGS

CPU = torch.device("cpu")
PROBLEMS = ("digits", "rooms")  # an input per task, accuracy; one input, gain


class Stop(Exception):
    """Ends a run after an epoch."""


@pytest.fixture(autouse=True)
def random_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems read random splits."""
    for name in PROBLEMS:
        splits = random_splits(DATASETS[name])
        read = lambda folder, settings, splits=splits: splits  # noqa: E731
        monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], read=read))


def spec_of(data: str, method: str = "stl", **assignments: Any) -> RunSpec:
    return resolve(data, method, assignments={"train.epochs": 3, "train.batch_size": 8, **assignments})


def run(spec: RunSpec, folder: Path, stop_after: int | None = None) -> Record:
    def on_epoch(epochs: int) -> None:
        if epochs == stop_after:
            raise Stop

    return train(spec, RunContext(folder, folder, CPU, 1), on_epoch)


def trained(spec: RunSpec, folder: Path) -> dict[str, Tensor]:
    """The network after the last epoch."""
    with pytest.raises(Stop):
        run(spec, folder, stop_after=spec.settings.train.epochs)
    return read_content(folder / CHECKPOINT).network


def without_index(network: dict[str, Tensor], task: int) -> dict[str, Tensor]:
    """One of several single-task networks, with the names that it has alone."""
    own = part_of_task(network, task)
    return {name.replace(f".{task}.", ".0.", 1): values for name, values in own.items()}


@pytest.mark.parametrize("data", [PROBLEMS[0], pytest.param(PROBLEMS[1], marks=pytest.mark.slow)])
def test_one_run_is_a_run_for_each_task(data: str, tmp_path: Path) -> None:
    """To the bit: weights, losses, and the selected epoch with its scores, as of runs of HPS on one task."""
    spec = spec_of(data)
    networks = trained(spec, tmp_path / "all")
    together = run(spec, tmp_path / "all")
    curve = pandas.read_csv(tmp_path / "all" / CURVE)
    for index, task in enumerate(spec.tasks):
        for method in ("ew", "stl") if index == 1 else ("ew",):
            one, folder = spec_of(data, method, **{"data.tasks": [task]}), tmp_path / f"{method}-{task}"
            network = trained(one, folder)
            named = {name.replace("encoder.", "encoder.0.", method == "ew"): v for name, v in network.items()}
            expected = without_index(networks, index)
            assert named.keys() == expected.keys()
            assert all(torch.equal(named[name], expected[name]) for name in named)
            apart = run(one, folder)
            assert apart.selected is not None
            assert apart.selected.epoch == together.selected_by_task[task].epoch
            assert apart.selected.score == together.selected_by_task[task].score
            for scores in ("validation", "test", "last_test", "reference"):
                assert getattr(apart, scores) == {task: getattr(together, scores)[task]}
            of_task = pandas.read_csv(folder / CURVE)
            for column in [name for name in of_task if "/" in str(name)]:
                assert np.array_equal(of_task[column], curve[column]), column


def test_the_selected_epochs_are_those_of_the_curve(tmp_path: Path) -> None:
    record = run(spec_of("digits", **{"train.epochs": 6}), tmp_path)
    curve = pandas.read_csv(tmp_path / CURVE)
    assert list(record.selected_by_task) == [task.key for task in record.tasks]
    for task, selected in record.selected_by_task.items():
        scores = curve[f"validation/{task}/accuracy"].to_numpy()
        assert selected.epoch == scores.argmax() + 1 and selected.score == scores.max()
        assert record.validation[task]["accuracy"] == scores.max()
    epochs = [selected.epoch for selected in record.selected_by_task.values()]
    assert len({*epochs}) > 1, "tasks with different epochs test more"
    assert record.selected is not None and record.selected.epoch == max(epochs)
    mean = sum(selected.score for selected in record.selected_by_task.values()) / len(epochs)
    assert record.selected.score == pytest.approx(mean)
    assert record.selected.rule == "for each task, highest accuracy on validation"


@pytest.mark.parametrize("data", PROBLEMS)
def test_the_first_step_is_that_of_adam_on_the_loss_of_each_task(data: str) -> None:
    """θ − lr·g/(|g| + ε) for the gradient g of its own loss: the first step of Adam in closed form."""
    spec = spec_of(data)
    network = build_network(spec, CPU)
    hps = build_network(spec_of(data, "ew"), CPU).state_dict()
    splits = spec.info.read(Path(), spec.data_settings)
    batch = next(iter(training_batches(splits.train, spec.info, 8, generator_for(0, "test"), CPU)))
    losses = forward_heads(network, spec.info.tasks, forward_shared(network, batch).heads)
    before = {name: values.clone() for name, values in network.state_dict().items()}
    named: dict[str, Tensor] = dict(network.named_parameters())  # type: ignore[attr-defined]
    gradients: dict[str, Tensor] = {}
    for index in range(len(spec.tasks)):
        own = part_of_task(named, index)
        gradients |= dict(zip(own, torch.autograd.grad(losses[index], list(own.values())), strict=True))
        for name in own:  # and all start where HPS does
            assert torch.equal(before[name], hps[name.replace(f"encoder.{index}.", "encoder.")])
    train_step(make_train_state(spec, network), batch, 0, 0)
    assert gradients.keys() == named.keys()
    for name, gradient in gradients.items():
        step = spec.settings.train.lr * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(named[name].detach(), before[name] - step, rtol=1e-5, atol=1e-7)


def test_an_interrupted_run_resumes_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    spec = spec_of("digits", **{"train.epochs": 4})
    whole = run(spec, tmp_path / "whole")
    for epochs in (1, 3):
        with pytest.raises(Stop):
            run(spec, tmp_path / "parts", stop_after=epochs)
    resumed = run(spec, tmp_path / "parts")
    changing = {"seconds", "step_seconds", "peak_memory_mib", "idle_memory_mib", "environment"}
    assert resumed.model_dump(exclude=changing) == whole.model_dump(exclude=changing)
    assert resumed.selected_by_task and not resumed.resumed


@pytest.mark.parametrize("damage", ["another task", "no network", "scores of another task"])
def test_a_checkpoint_with_damaged_best_networks_is_not_resumed(damage: str, tmp_path: Path) -> None:
    spec, notes = spec_of("digits"), list[str]()
    with pytest.raises(Stop):
        run(spec, tmp_path, stop_after=1)
    content = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    best = content["history"]["best_by_task"]
    if damage == "another task":
        best["plain"]["network"] = best["noisy"]["network"]
    elif damage == "no network":
        best["plain"]["network"] = {}
    else:
        best["plain"]["validation"] = best["noisy"]["validation"]
    torch.save(content, tmp_path / CHECKPOINT)
    record = train(spec, RunContext(tmp_path, tmp_path, CPU, 1), lambda epochs: None, notes.append)
    assert record.status == "done" and "the file is damaged" in notes[0]


def test_parameters_are_recorded_as_not_shared(tmp_path: Path) -> None:
    stl, hps = (
        run(spec_of("rooms", method, **{"train.epochs": 1}), tmp_path / method).parameters for method in ("stl", "ew")
    )
    assert stl is not None and hps is not None
    assert (stl.shared, stl.encoders, stl.heads) == (0, 3 * hps.shared, hps.heads)
    assert hps.encoders == 0


def test_weightings_that_would_join_the_networks_are_refused() -> None:
    for name in WEIGHTINGS:
        if name in ("ew", "fixed", "frozen"):
            resolve("digits", architecture="stl", weighting=name, assignments=weights_of(name))
            continue
        with pytest.raises(SpecError, match="Expected a weighting with constant weights \\(ew, fixed") as found:
            resolve("digits", architecture="stl", weighting=name)
        assert "\n" not in str(found.value)


def test_a_clip_that_would_join_the_networks_is_refused() -> None:
    with pytest.raises(SpecError, match=r"expected infinity with single-task networks, .* found 1"):
        resolve("digits", architecture="stl", weighting="frozen", assignments={"weighting.max_norm": 1.0})


def weights_of(weighting: str) -> dict[str, Any]:
    return {"weighting.weights": [1.0, 2.0, 3.0, 4.0]} if weighting == "fixed" else {}


@pytest.mark.parametrize("setting", [{"train.clip_norm": 1.0}, {"train.cosines_every": 2}])
def test_settings_that_need_shared_parameters_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"{next(iter(setting))}: expected 0 with single-task networks"):
        spec_of("digits", **setting)


def test_every_encoder_is_compiled() -> None:
    network = build_network(spec_of("rooms", **{"compute.compile": True}), CPU)
    encoders = list(network.encoder.children())
    assert len(encoders) == 3
    assert all(encoder._compiled_call_impl is not None for encoder in encoders)


@pytest.mark.parametrize("setting", [{"compute.precision": "bf16"}, {"train.accumulate": 2}, {"heads.rule": "plain"}])
def test_other_ways_to_compute_a_step_train_the_same_networks(setting: dict[str, Any], tmp_path: Path) -> None:
    """Up to the rounding of each: the losses of a short run."""
    curves = []
    for name, chosen in {"plain": {}, "other": setting}.items():
        record = run(spec_of("digits", **{"train.epochs": 1, **chosen}), tmp_path / name)
        assert record.status == "done", record.reason
        curves.append(pandas.read_csv(tmp_path / name / CURVE).filter(regex="^train/").to_numpy())
    assert np.allclose(curves[0], curves[1], rtol=2e-2 if setting.get("compute.precision") else 1e-4)


@pytest.mark.parametrize("tasks", [[], ["depth", "normal"]])
def test_an_estimate_counts_an_encoder_for_each_task(tasks: list[str]) -> None:
    stl, hps = (count_step(spec_of("rooms", method, **{"data.tasks": tasks}), (32, 32)) for method in ("stl", "ew"))
    of_encoders = {
        name: sum(times * kernel.flops for kernel, times in counts.kernels.items() if "encoder" in kernel.layer)
        for name, counts in {"stl": stl, "hps": hps}.items()
    }
    assert of_encoders["stl"] == pytest.approx((len(tasks) or 3) * of_encoders["hps"])
    assert stl.flops - hps.flops == pytest.approx(of_encoders["stl"] - of_encoders["hps"])

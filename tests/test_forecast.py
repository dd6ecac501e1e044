"""bench.plan: sizes and steps are right, step costs come from records or measurements, no data set is needed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from record_factory import make_record

from bench import ROOT, plan
from bench.forecasting import forecast as forecasting
from bench.forecasting.forecast import Forecast, Group, Machine, forecast, recorded_cost, step_key
from bench.forecasting.probe import StepCost, Trial, fits, measure
from bench.forecasting.report import as_text, duration, size
from bench.forecasting.sizes import dataset_size, prepared_bytes
from bench.records.all_records import read_records
from bench.records.environment import describe_environment
from bench.records.store import run_folder, write_record
from bench.spec.request import PlanError, Request
from bench.spec.resolve import RunSpec, resolve
from bench.spec.study import StudyRow
from datasets import DATASETS, obtain
from datasets.contract import DataSettings

CPU = torch.device("cpu")
MACHINE = Machine(CPU, threads=1, jobs=1)
# Images of the largest training source, and of all parts.
SIZES = {
    "office31": (1680, 4110),
    "nyuv2": (636, 1449),  # a fifth of 795 validates
    "celeba": (162_770, 202_599),
    "digits": (2148, 14376),
}

Ask = Callable[..., int]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """bench.plan on a machine without data or records."""

    def call(*arguments: str) -> int:
        places = ["--results", str(tmp_path / "results"), "--data-root", str(tmp_path / "data")]
        return plan.main([*arguments, *places, "--device", "cpu", "--budget", "1"])

    return call


def test_sizes_are_published() -> None:
    for name, (training, images) in SIZES.items():
        info = DATASETS[name]
        found = dataset_size(name, DataSettings(info.image_size))
        assert (found.training, found.images) == (training, images), name
        assert found.image_size == (info.image_size or (8, 8)), name
    published = dataset_size("nyuv2", DataSettings((288, 384), protocol="published"))
    assert published.training == 795  # without a validation set


def test_sizes_and_bytes_agree_with_the_reader(data_root: Path) -> None:
    settings = DataSettings(None)
    found, splits = dataset_size("digits", settings), DATASETS["digits"].read(obtain("digits", data_root), settings)
    parts = [list(map(len, part)) for part in (splits.train, splits.validation, splits.test)]
    assert found.training == max(parts[0]) and found.images == sum(map(sum, parts))
    assert found.image_size == tuple(splits.train[0].images.shape[1:3])
    rooms = dataset_size("rooms", DataSettings(None))
    assert prepared_bytes("rooms", rooms) == (192 + 80) * 48 * 64 * (3 + 1 + 4 + 12)


def test_a_batch_is_tried_if_time_and_memory_suffice() -> None:
    trial = Trial(8, 4.0, 400.0)
    assert trial.at(64) == Trial(64, 32.0, 3200.0)
    assert fits(trial.at(64), 64, None) and not fits(trial.at(64), 63, None)  # two steps
    assert fits(trial.at(16), 64, 1000) and not fits(trial.at(17), 64, 1000)  # 800 MiB of 1000
    assert fits(Trial(2, 1.0, None).at(64), 64, 1)  # memory unknown


def test_equal_steps_are_measured_once() -> None:
    def key(method: str, **settings: object) -> str:
        return step_key(resolve("digits", method, assignments={k.replace("__", "."): v for k, v in settings.items()}))

    assert key("ew") == key("uw") == key("ew", train__lr=0.1, backbone__weights="none")
    assert key("mgda") == key("nash_mtl") != key("ew")
    assert key("famo") != key("uw")  # one more forward pass
    assert key("ew") != key("ew", train__batch_size=8) != key("normal")
    assert key("mgda") != key("mgda", weighting__every=4)
    assert key("ew") != key("ew", train__epochs=3)  # as costly a step, but other runs
    first, second = ([1.0, 1.25, 1.5, 2.0], [2.0, 1.5, 1.25, 1.0])
    assert key("normal", arch__initial_positions=first) == key("normal", arch__initial_positions=second)


def test_steps_are_measured_on_noise() -> None:
    for data, method in (("digits", "mgda"), ("rooms", "normal"), ("faces", "ew")):
        spec = resolve(data, method, assignments={"train.batch_size": 4, "train.lr": 1e30})  # noise can't diverge
        found = measure(spec, (16, 16), CPU, seconds=20)
        assert isinstance(found, StepCost) and found.source == "measured", data
        assert 0 < found.step < 5 and found.peak_mib is not None, data


@pytest.mark.slow
def test_without_time_one_step_of_the_smallest_batch_is_measured() -> None:
    for side, source in ((512, "scaled from B=2"), (128, "scaled from B=16"), (16, "measured")):
        found = measure(resolve("digits", "ew"), (side, side), CPU, seconds=0)
        assert isinstance(found, StepCost) and found.source == source, side


def test_steps_between_updates_cost_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step in `every` computes the weights; both kinds are timed."""
    kinds = []

    def train_step(*arguments: object, **options: object) -> None:
        kinds.append(arguments[2])
        time.sleep(0.02 if arguments[2] == 0 else 0.002)

    monkeypatch.setattr("bench.forecasting.probe.train_step", train_step)
    spec = resolve("digits", "mgda", assignments={"weighting.every": 10, "train.batch_size": 2})
    found = measure(spec, (16, 16), CPU, seconds=20)
    assert isinstance(found, StepCost) and set(kinds) == {0, 1}
    assert 0.0038 < found.step < 0.01


def write_one_record(results: Path) -> RunSpec:
    """The record of a run of EW on digits, two epochs, seed 0, as if it had been made here."""
    spec = resolve("digits", "ew", seed=0, assignments={"train.epochs": 2})
    environment = {"device": "cpu", "threads": 1, "cpu": describe_environment(ROOT)["cpu"]}
    record = make_record(
        settings=spec.settings.as_dict(), environment=environment, variant=spec.variant, steps=66, seconds=1.0, epochs=2
    )
    write_record(run_folder(results, "digits", spec.variant, 0), record)
    return spec


def test_records_give_the_step_cost(tmp_path: Path) -> None:
    spec = replace(write_one_record(tmp_path), seed=1)
    (record,) = read_records(tmp_path)
    cost = recorded_cost([spec, replace(spec, seed=2)], tmp_path, MACHINE)
    assert cost == StepCost(record.seconds / 66, "from 1 record", record.peak_memory_mib)
    assert recorded_cost([spec], tmp_path, Machine(CPU, threads=2, jobs=1)) is None
    assert recorded_cost([resolve("digits", "ew", seed=1)], tmp_path, MACHINE) is None


def test_a_plan_from_records_measures_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_one_record(tmp_path / "results")
    places = ["--results", str(tmp_path / "results"), "--data-root", str(tmp_path), "--device", "cpu", "--jobs", "1"]
    request = ["--method", "ew", "--data", "digits", "--epochs", "2"]
    monkeypatch.setattr("bench.forecasting.forecast.measure", lambda *arguments: pytest.fail("measured"))
    assert plan.main([*request, "--seeds", "0", "1", "2", *places]) == 0
    out = capsys.readouterr().out
    assert "from 1 record" in out and "2 runs to do (1 done), 132 steps, about 2.0 s in all." in out
    assert plan.main([*request, "--seeds", "0", *places]) == 0
    assert "Nothing to do: all 1 runs are done." in capsys.readouterr().out
    (path,) = tmp_path.rglob("record.json")
    raw = json.loads(path.read_text())
    raw["settings"]["train"]["lr"] = 0.5
    path.write_text(json.dumps(raw))
    assert plan.main([*request, "--seeds", "0", *places]) == 2
    assert str(path) in capsys.readouterr().err


def test_a_plan_for_a_person(ask: Ask, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    request = ["--method", "ew", "uw", "mgda", "--data", "digits", "--seeds", "0", "1", "--jobs", "2"]
    assert ask(*request, "--set", "train.batch_size=8", "--epochs", "3") == 0
    out = capsys.readouterr().out
    assert "EW, UW" in out and "6 runs to do (0 done), 4,824 steps, about" in out  # 6 × 3 × 268
    assert "2 runs at a time share the machine" in out and "Disk: decoded files digits" in out
    assert not list(tmp_path.iterdir())  # nothing is made or kept


def test_a_plan_for_scripts(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["train.batch_size=2", "backbone.name=small", "data.image_size=[16,16]", "train.epochs=1"]
    request = ["--study", "paper", "--method", "ew", "--seeds", "0", "--set", *small]
    assert ask(*request, "--data", "officehome", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    (group,) = found["groups"]
    assert group["pending"] == 1 and group["steps"] == 2635 // 2
    assert group["cost"]["step"] > 0 and found["seconds"] == group["seconds"] > 0
    assert found["missing"] == ["officehome"] and found["machine"]["device"] == "cpu"


def test_bad_input_ends_with_a_line_and_2(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    for request, expected in {
        "--study papr": "Did you mean 'paper'?",
        "--method nashmlt --data digits": "Did you mean 'nash_mtl'?",
        "--method ew --data digts": "Did you mean 'digits'?",
        "--method ew": "Expected --data",
        "--method ew --data officehome --set data.image_size=null": "data.image_size=[height, width]",
    }.items():
        assert ask(*request.split()) == 2, request
        error = capsys.readouterr().err
        assert expected in error and len(error.strip().splitlines()) <= 2, request


def test_a_forecast_says_what_settings_do_on_this_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request([StudyRow(method="ew", set={"compute.tf32": True})], ["digits"], [0])
    found = forecast(request, tmp_path, tmp_path, MACHINE, 0.01, lambda text: None)
    assert "compute.tf32: no effect on a CPU." in found.remarks
    monkeypatch.setattr(forecasting, "hardware_errors", lambda specs, device: [f"no {specs[0].weighting} on {device}"])
    with pytest.raises(PlanError, match="no ew on cpu"):
        forecast(request, tmp_path, tmp_path, MACHINE, 0.01, lambda text: None)


def test_units() -> None:
    assert [duration(s) for s in (1.24, 45, 600, 7200, 3600 * 480)] == ["1.2 s", "45 s", "10 min", "2.0 h", "480.0 h"]
    assert [size(count) for count in (10, 3 * 2**20, 5 * 2**30)] == ["< 1 MiB", "3.0 MiB", "5.0 GiB"]


def test_the_text_of_a_forecast() -> None:
    known = Group("digits", ("EW",), 2, 1, 12, 12.0, StepCost(1.0, "scaled from B=8", 4000.0))
    unknown = Group("celeba", ("EW", "UW"), 1, 0, 12, None, "out of memory with a batch of 2")
    machine = Machine(CPU, threads=1, jobs=2)
    text = as_text(Forecast(machine, (known, unknown), 24.0, {"digits": 2**20}, 1000.0, ("celeba",)))
    assert "3 runs to do (1 done), 36 steps, at least 24 s in all." in text
    assert "decoded files digits 1.0 MiB; a checkpoint" in text
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "digits 2 1 12 1 12 s 24 s 3.9 GiB scaled from B=8 EW" in rows
    assert "out of memory with a batch of 2" in text and "EW, UW" in text
    assert "Not found: celeba. python -m bench.data how NAME" in text and "Scaled: time and memory" in text
    assert "Not enough memory: 2 at a time need 7.8 GiB, 1000.0 MiB are free; lower --jobs" in text

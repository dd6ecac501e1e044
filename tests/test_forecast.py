"""python -m bench.plan: what it counts is right, what it times it times here, and it needs no data set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data_trees import write_celeba

from bench import plan, run
from bench.forecasting.counts import (
    Sizes,
    evaluated_images,
    makespan,
    prepared_bytes,
    sizes_of,
    steps_in_epoch,
    table_bytes,
    take_stock,
)
from bench.forecasting.forecast import Forecast, Line, measured_pace
from bench.forecasting.memory import bytes_in
from bench.forecasting.probe import Measured, Trial, average, measure, next_batch, noise, scaled
from bench.forecasting.runs import Machine, Pace, recorded_pace, work_of
from bench.forecasting.table import duration, size, total
from bench.records.store import read_records
from bench.spec.resolve import resolve
from datasets import DATASETS
from datasets.contract import DataSettings
from datasets.pixels import CACHE

CPU = torch.device("cpu")
MACHINE = Machine(CPU, threads=1, jobs=1)
SIZES = {
    "office31": Sizes((1680, 287, 466), (552, 89, 149), (585, 122, 180)),
    "nyuv2": Sizes((636,), (159,), (654,)),  # a fifth of 795 validates
    "celeba": Sizes((162_770,), (19_867,), (19_962,)),
    "digits": Sizes((269, 268, 266, 265), (89, 88, 87, 86), (96, 95, 94, 94)),
}

Ask = Callable[..., int]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """bench.plan on a machine without data or records."""

    def call(*arguments: str) -> int:
        places = ["--results", str(tmp_path / "results"), "--data-root", str(tmp_path / "data")]
        return plan.main([*arguments, *places, "--device", "cpu", "--budget", "1"])

    return call


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes_stand_for_what_is_not_here(name: str, tmp_path: Path) -> None:
    info = DATASETS[name]
    stock = take_stock(name, DataSettings(info.image_size), tmp_path)
    assert stock.sizes == SIZES[name] and stock.here == (info.make is not None)
    assert stock.image_size == (info.image_size or (16, 16))
    assert not list(tmp_path.iterdir())  # nothing is made


def test_without_validation_all_training_images_train() -> None:
    info = DATASETS["nyuv2"]
    settings = DataSettings(info.image_size, protocol="published")
    assert sizes_of(info.published, info, settings) == Sizes((795,), (0,), (654,))
    assert sizes_of({}, info, settings) is None


@pytest.mark.parametrize("name", ["digits", "rooms", "faces"])
def test_sizes_and_bytes_are_those_that_the_reader_finds(name: str, data_root: Path) -> None:
    info = DATASETS[name]
    settings = DataSettings(info.image_size)
    stock, splits = take_stock(name, settings, data_root), info.read(data_root / name, settings)
    parts = [tuple(map(len, part)) for part in (splits.train, splits.validation, splits.test)]
    assert Sizes(*parts) == stock.sizes
    assert stock.image_size == tuple(splits.train[0].images.shape[1:3])
    arrays = [path for path in (data_root / name).rglob("*.npy") if path.parent.name == CACHE]
    on_disk, headers = sum(path.stat().st_size for path in arrays), 128 * len(arrays)
    # Tests that share the data may have read it in other ways too.
    assert 0 < prepared_bytes(stock, info) + headers <= on_disk
    if name == "rooms":
        assert prepared_bytes(stock, info) == (192 + 80) * (48 * 64 * (3 + 1 + 4 + 12) + 4 * 16)


def test_files_that_are_here_are_counted(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba")
    stock = take_stock("celeba", DataSettings((64, 64)), tmp_path)
    splits = DATASETS["celeba"].read(tmp_path / "celeba", DataSettings((64, 64)))
    assert stock.here and stock.sizes.train == (len(splits.train[0]),) and not stock.remarks


def test_files_that_are_not_whole_are_told(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba")
    next((tmp_path / "celeba").rglob("*.jpg")).unlink()
    stock = take_stock("celeba", DataSettings((64, 64)), tmp_path)
    assert stock.sizes == SIZES["celeba"] and "bench.data check celeba" in stock.remarks[0]


def test_steps_and_evaluations_by_hand() -> None:
    assert steps_in_epoch(SIZES["office31"], 64) == 26  # 1680 / 64 = 26.25
    assert steps_in_epoch(SIZES["celeba"], 256) == 635  # 162770 / 256 = 635.8
    assert steps_in_epoch(Sizes((5,), (1,), (1,)), 64) == 1
    sizes = Sizes((10, 20), (3, 4), (5, 6))
    assert sizes.images == 48
    assert evaluated_images(sizes, 100) == 100 * 7 + 2 * 11
    assert evaluated_images(Sizes((10,), (0,), (5,)), 100) == 10 * 5  # the last ten epochs
    assert evaluated_images(Sizes((10,), (0,), (5,)), 3) == 3 * 5


def test_bytes_of_tables_by_hand() -> None:
    ew = resolve("digits", "ew", assignments={"train.epochs": 2})
    assert table_bytes(ew, 8) == 20 * 2 * (3 + 4 + 4 + 4 + 1)  # epoch, step, seconds, losses, scores, weights, score
    looked_at = resolve("digits", "normal", assignments={"train.epochs": 2, "train.cosines_every": 4})
    assert table_bytes(looked_at, 8) == 20 * (2 * 16 + 8 * 5 + 2 * (1 + 6))


def test_runs_are_taken_in_order_by_whoever_is_free() -> None:
    assert makespan([], 2) == 0
    assert makespan([3, 3, 3], 1) == 9
    assert makespan([3, 3, 3], 2) == 6
    assert makespan([5, 1, 1, 1], 2) == 5
    assert makespan([7], 4) == 7  # one run isn't shared


def test_scaling() -> None:
    assert scaled([(8, 3.0)], 8) == 3
    assert scaled([(2, 3.0)], 64) == 96
    assert scaled([(2, 3.0), (4, 5.0)], 64) == 65  # 1 + images
    assert scaled([(2, 3.0), (4, 7.0)], 8) == 14  # no fixed part below 0
    assert scaled([(2, 5.0), (4, 3.0)], 8) == 3  # noise: nothing in proportion
    assert scaled([(2, 3.0), (64, 65.0)], 64) == 65


def test_the_next_batch_is_the_largest_that_time_and_memory_allow() -> None:
    first = Trial(2, 1.0, 0.0, 100.0)
    assert next_batch([first], 64, 1, 1000, None) == 64
    assert next_batch([first], 64, 1, 4 * 16, None) == 32
    assert next_batch([first], 48, 1, 4 * 24, None) == 48  # it need not be a power of two
    assert next_batch([first], 64, 1, 1000, 1000) == 16  # 800 MiB, eight tenths of what is free
    assert next_batch([first], 64, 1, 1, None) == 4  # 2 s, for the fixed part
    assert next_batch([first], 64, 1, 0.5, None) is None
    assert next_batch([first, Trial(4, 2.0, 0.0, 200.0)], 64, 1, 1, None) is None
    assert next_batch([first], 2, 1, 1000, None) is None
    assert next_batch([Trial(6, 1.0, 0.0, None)], 48, 3, 8, None) == 12  # multiples of the parts that it passes in


def test_rare_steps_count_as_often_as_they_come() -> None:
    assert average([9.0, 9.0, 1.0, 3.0], [], 1) == 2
    assert average([9.0, 9.0, 5.0], [8.0, 8.0, 1.0], 4) == 2
    assert average([7.0], [], 1) == 7


def test_what_a_measurement_says_of_a_run() -> None:
    found = Measured(2.0, 0.5, 0.1, (2, 8), 10.0, 20.0, 123, (6, 4))
    pace = measured_pace(found, "EW", steps=10, images=30, batch_size=16)
    assert (pace.step, pace.rest, pace.peak_mib) == (2, 10 * 0.5 + 30 * 0.1, 30)
    assert pace.known == "scaled from B=2 and 8" and pace.checkpoint == 123
    assert measured_pace(found, "EW", 10, 30, 8).known == "measured"
    assert measured_pace(replace(found, passing_mib=None), "EW", 10, 30, 8).peak_mib is None


def test_the_same_work_is_timed_once() -> None:
    def work(method: str, **settings: object) -> str:
        return work_of(resolve("digits", method, assignments={k.replace("__", "."): v for k, v in settings.items()}))

    assert work("ew") == work("uw") == work("ew", train__lr=0.1, train__epochs=3, backbone__weights="none")
    assert work("mgda") == work("nash_mtl") != work("ew")
    assert work("famo") != work("uw")  # one more pass ahead
    assert work("ew") != work("ew", train__batch_size=8) != work("normal")
    first, second = ([1.0, 1.25, 1.5, 2.0], [2.0, 1.5, 1.25, 1.0])
    assert work("normal", arch__initial_positions=first) == work("normal", arch__initial_positions=second)


@pytest.mark.parametrize(("data", "method"), [("digits", "mgda"), ("rooms", "normal"), ("faces", "ew")])
def test_steps_are_timed_on_noise(data: str, method: str) -> None:
    spec = resolve(data, method, assignments={"train.batch_size": 4, "train.lr": 1e30})  # noise can't diverge
    found = measure(spec, (16, 16), CPU, seconds=5)
    assert isinstance(found, Measured) and found.trials == (2, 4)
    assert 0 < found.step < 5 and 0 < found.image < 1 and 0 < found.batch < 1
    # Network twice, Adam's two moments, and a step count for each parameter.
    least = 4 * 4 * sum(found.parameters)
    assert least <= found.checkpoint_bytes < 1.05 * least + 1000


def test_without_time_one_step_of_the_least_batch_is_timed() -> None:
    found = measure(resolve("digits", "ew"), (16, 16), CPU, seconds=0)
    assert isinstance(found, Measured) and found.trials == (2,)


def test_noise_is_what_a_reader_would_give() -> None:
    spec = resolve("nyuv2", "ew")
    (source,) = noise(spec, (32, 48), 3)
    assert source.images.shape == (3, 32, 48, 3) and source.images.dtype == torch.uint8
    assert [tuple(source.targets[task].shape) for task in range(3)] == [(3, 32, 48), (3, 1, 32, 48), (3, 3, 32, 48)]
    assert len(noise(resolve("digits", "ew"), (16, 16), 2)) == 4


@pytest.fixture(scope="module")
def one_record(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with a run of EW on digits, two epochs, seed 0."""
    results = tmp_path_factory.mktemp("results")
    places = ["--results", str(results), "--data-root", str(data_root), "--device", "cpu", "--jobs", "1"]
    assert run.main(["--method", "ew", "--data", "digits", "--epochs", "2", "--seeds", "0", *places]) == 0
    return results


def test_records_tell_the_pace(one_record: Path) -> None:
    (record,) = read_records(one_record)
    spec = resolve("digits", "ew", seed=1, assignments={"train.epochs": 2})
    pace = recorded_pace(spec, [record], MACHINE)
    assert pace is not None and record.step_seconds is not None and record.parameters is not None
    assert pace.step == record.step_seconds.median and pace.known == "from 1 record"
    assert 8 * pace.step + pace.rest == pytest.approx(max(record.seconds, 8 * pace.step))
    assert recorded_pace(spec, [record], Machine(CPU, threads=2, jobs=1)) is None
    assert recorded_pace(resolve("digits", "ew", seed=1), [record], MACHINE) is None


def test_a_plan_from_records_measures_nothing(
    one_record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(one_record, tmp_path / "results")
    places = ["--results", str(tmp_path / "results"), "--data-root", str(tmp_path), "--device", "cpu", "--jobs", "1"]
    request = ["--method", "ew", "--data", "digits", "--epochs", "2"]
    monkeypatch.setattr("bench.forecasting.forecast.measure", lambda *arguments: pytest.fail("measured"))
    assert plan.main([*request, "--seeds", "0", "1", "2", *places]) == 0
    out = capsys.readouterr().out
    assert "from 1 record" in out and "2 runs, 16 steps, about" in out and "1 more are kept." in out
    assert plan.main([*request, "--seeds", "0", *places]) == 0
    assert "Nothing to do: all 1 runs are kept." in capsys.readouterr().out
    (path,) = tmp_path.rglob("record.json")
    raw = json.loads(path.read_text())
    raw["settings"]["train"]["lr"] = 0.5
    path.write_text(json.dumps(raw))
    assert plan.main([*request, "--seeds", "0", *places]) == 2
    assert "made with other settings" in capsys.readouterr().err


def test_a_plan_for_a_person(ask: Ask, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    request = ["--method", "ew", "uw", "mgda", "--data", "digits", "--seeds", "0", "1", "--jobs", "2"]
    assert ask(*request, "--set", "train.batch_size=8", "--epochs", "3") == 0
    out = capsys.readouterr().out
    assert "EW, UW" in out and "EW for EW, UW" in out and "6 runs, 594 steps, about" in out  # 6 × 3 × 33
    assert "2 runs at a time share the machine" in out and "Disk, computed" in out
    assert not list(tmp_path.iterdir())  # nothing is made or kept


def test_a_plan_for_scripts(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["train.batch_size=2", "backbone.name=small", "data.image_size=[16,16]", "train.epochs=1"]
    request = ["--study", "paper", "--method", "ew", "--seeds", "0", "--set", *small]
    assert ask(*request, "backbone.name=small", "--data", "officehome", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    (line,) = found["lines"]
    assert line["here"] is False and line["to_do"] == 1 and line["steps"] == 2635 // 2
    assert line["pace"]["step"] > 0 and found["seconds"] > 0 and found["seconds_here"] == 0
    assert "python -m bench.data how NAME" in found["remarks"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--study", "papr"], "Did you mean 'paper'?"),
        (["--method", "nashmlt", "--data", "digits"], "Did you mean 'nash_mtl'?"),
        (["--method", "ew", "--data", "digts"], "Did you mean 'digits'?"),
        (["--method", "ew"], "Expected --data"),
        (
            ["--method", "ew", "--data", "officehome", "--set", "data.image_size=null"],
            "data.image_size=[height, width]",
        ),
    ],
)
def test_bad_input_ends_with_a_line_and_2(
    arguments: list[str], message: str, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) <= 2


def test_totals_and_units() -> None:
    assert [duration(s) for s in (1.24, 45, 600, 7200, 3600 * 30.5, 3600 * 480)] == [
        "1.2 s", "45 s", "10 min", "2.0 hours", "30.5 hours", "480 hours (20 days)",
    ]  # fmt: skip
    assert [size(count) for count in (10, 3 * 2**20, 5 * 2**30)] == ["< 1 MiB", "3.0 MiB", "5.0 GiB"]
    assert bytes_in({"a": torch.zeros(3), "b": [torch.zeros(2, dtype=torch.uint8), 5]}) == 14
    pace = Pace(1.0, 0.0, "measured", "EW", None, (1, 1), 1)
    here = Line("digits", True, ("EW",), 2, 1, 3, 4, 24, 12.0, pace, "", 0)
    unknown = Line("celeba", False, ("EW",), 1, 0, 3, 4, 12, None, None, "out of memory", 0)
    lines = (here, unknown)
    found = Forecast("cpu", 1, 2, lines, 24.0, 24.0, {}, 0, None, ())
    assert total(found) == (
        "3 runs, 36 steps, at least 24 s on cpu with 2 jobs; 2 of them on data that is here, at least 24 s; 1 more are "
        "kept."
    )

"""How many runs are trained at a time, on which device, and which start first."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_trees import write_digits
from record_factory import make_record, make_unfinished

from bench import run
from bench.cli.placement import placed
from bench.launch.config import LaunchConfig
from bench.launch.devices import devices_of, spread
from bench.launch.local import run_locally
from bench.launch.messages import Event
from bench.launch.order import longest_first
from bench.records.store import run_folder, write_record
from bench.spec.data_seen import CurrentData, SeenData, data_key
from bench.spec.resolve import RunSpec, resolve

UNKNOWN = CurrentData({}, {})


@pytest.mark.parametrize(
    ("name", "accelerators", "processes", "expected"),
    [
        ("cpu", 0, 1, ["cpu"]),
        ("cpu", 4, 2, ["cpu"]),
        ("cuda", 1, 1, ["cuda"]),
        ("cuda", 3, 1, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda:2", 4, 1, ["cuda:2"]),
        ("cuda", 8, 2, ["cuda:0", "cuda:2", "cuda:4", "cuda:6"]),
        ("cuda", 5, 2, ["cuda:0", "cuda:2"]),  # the fifth has no partner
        ("cuda", 2, 4, ["cuda"]),  # which `hardware_errors` refuses
    ],
)
def test_devices_that_runs_are_spread_over(name: str, accelerators: int, processes: int, expected: list[str]) -> None:
    assert devices_of(name, accelerators, processes) == expected


def test_the_least_loaded_device_comes_first() -> None:
    three = ["cuda:0", "cuda:1", "cuda:2"]
    assert spread(three, 5) == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    assert spread(["cpu"], 2) == ["cpu", "cpu"] and spread(three, 1) == ["cuda:0"]
    for workers in range(1, 20):
        counts = [spread(three, workers).count(name) for name in three]
        assert sum(counts) == workers and max(counts) - min(counts) <= 1
    assert placed(spread(three, 6)) == "6 at a time: 2 on cuda:0, 2 on cuda:1, 2 on cuda:2"
    assert placed(["cpu", "cpu"]) == "2 at a time on cpu"


@pytest.mark.parametrize("options", [["--per-device", "2"], ["--per-device", "2", "--jobs", "3"]])
def test_no_runs_per_device_on_a_cpu(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--method", "ew", "--data", "digits", "--device", "cpu", "--results", str(tmp_path), *options]
    assert run.main([*words, "--data-root", str(tmp_path), "--dry-run"]) == 2
    assert "--per-device: expected an accelerator, found a CPU" in capsys.readouterr().err


def specs_of(*runs: tuple[str, str, int]) -> list[RunSpec]:
    """Runs by data set, method and epochs."""
    return [resolve(data, method, assignments={"train.epochs": epochs}) for data, method, epochs in runs]


def order(specs: list[RunSpec], *records: object, current: CurrentData = UNKNOWN) -> list[tuple[str, float | None]]:
    found = longest_first(specs, records, current)  # type: ignore[arg-type]
    return [(run.spec.method, run.seconds) for run in found]


def test_the_longest_runs_come_first_by_finished_ones() -> None:
    specs = specs_of(("digits", "ew", 20), ("digits", "mgda", 20), ("digits", "uw", 20), ("digits", "pcgrad", 40))
    kept = [
        *(make_record("digits", "EW", seed, seconds=seconds) for seed, seconds in enumerate((9.0, 10.0, 30.0))),
        make_record("digits", "MGDA", seconds=50.0),
        make_unfinished("diverged", "", method="UW", seconds=900.0),
    ]
    # EW: a median of 1 s for each of 10 epochs; MGDA: 5 s; the others: that of all four runs, 2 s.
    assert order(specs, *kept) == [("mgda", 100.0), ("pcgrad", 80.0), ("uw", 40.0), ("ew", 20.0)]
    same = make_record("digits", "PCGrad", variant=specs[3].variant, seconds=1.0)
    assert order(specs, *kept, same)[-1] == ("pcgrad", 4.0)  # the same variant is known best


def test_without_finished_runs_images_and_tasks_count() -> None:
    specs = specs_of(("digits", "ew", 3), ("rooms", "ew", 30), ("digits", "uw", 4), ("rooms", "uw", 30))
    sizes = dict(zip(map(data_key, specs), (1000, 20, 1000, 20), strict=True))
    current = CurrentData({key: SeenData({}, "", {}, size) for key, size in sizes.items()}, {})
    assert order(specs, current=current) == [("uw", None), ("ew", None), ("ew", None), ("uw", None)]
    # Digits take 10 s for an epoch of 4,000 images and tasks, so that an epoch of rooms, with 60, takes 0.15 s.
    found = longest_first(specs, [make_record("digits", "EW", seconds=100.0)], current)
    assert [(run.spec.data, run.seconds) for run in found] == [
        ("digits", 40.0), ("digits", 30.0), ("rooms", None), ("rooms", None),
    ]  # fmt: skip
    assert [run.work for run in found] == [16000, 12000, 1800, 1800]


def test_equal_runs_stay_in_their_order() -> None:
    specs = [spec.with_seed(seed) for seed in (0, 1) for spec in specs_of(("digits", "ew", 5), ("digits", "uw", 5))]
    assert [run.spec for run in longest_first(specs, [], UNKNOWN)] == specs


def test_the_order_is_shown_before_anything_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, results = write_digits(tmp_path), tmp_path / "results"
    for method, seconds in (("EW", 30.0), ("MGDA", 210.0)):
        spec = resolve("digits", method, seed=0)
        record = make_record(method=method, settings=spec.settings.as_dict(), epochs=30, seconds=seconds)
        write_record(run_folder(results, *spec.key), record)
    words = ["--method", "ew", "mgda", "--data", "digits", "--seeds", "0", "1", "2", "--results", str(results)]
    words += ["--data-root", str(data.parent), "--device", "cpu", "--dry-run"]

    def listed(jobs: int) -> list[str]:
        assert run.main([*words, "--jobs", str(jobs)]) == 0
        return capsys.readouterr().out.splitlines()

    lines = listed(2)
    runs = [line.removeprefix("would run digits ") for line in lines if line.startswith("would run")]
    assert runs == [
        "mgda seed 1, 30 epochs, about 210 s", "mgda seed 2, 30 epochs, about 210 s",
        "ew seed 1, 30 epochs, about 30 s", "ew seed 2, 30 epochs, about 30 s",
    ]  # fmt: skip
    assert "2 at a time on cpu, the longest first:" in lines and listed(2) == lines
    assert [line.split()[3] for line in listed(1) if line.startswith("would run")] == ["ew", "mgda", "ew", "mgda"]


@pytest.mark.slow
def test_each_worker_trains_on_its_own_device(tmp_path: Path) -> None:
    """A CPU stands for each accelerator; a name that is of no device shows that workers take theirs."""
    data = write_digits(tmp_path / "data")
    short = {"train.epochs": 1, "train.batch_size": 8}
    specs = [resolve("digits", "ew", seed=seed, assignments=short) for seed in range(3)]
    config = LaunchConfig({"digits": data}, tmp_path / "results", "nowhere", 1, devices=("cpu", "cpu"))
    ended: list[Event] = []
    run_locally(specs, config, 2, lambda event: ended.append(event) if event.kind == "end" else None)
    assert {event.spec.seed for event in ended} == {0, 1, 2}
    assert [event.record.environment["device"] for event in ended if event.record] == ["cpu"] * 3

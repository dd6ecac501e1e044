"""Shards: every run is in exactly one, whatever is finished, and together they are the whole request."""

from __future__ import annotations

import random
import time
from argparse import ArgumentTypeError
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from data_trees import write_digits
from kills import differences, numbers

from bench import run, tune
from bench.cli.forced import forced_runs
from bench.cli.launchers import shard, without_launcher
from bench.cli.options import cores
from bench.cli.training_plan import _own_part
from bench.launch import cluster
from bench.launch.config import LaunchConfig
from bench.launch.run_queue import RunQueue
from bench.launch.shards import Shard, cost, divide
from bench.records.all_records import read_records
from bench.records.claim import Holder, holder_of, take
from bench.spec.planning import make_plan
from bench.spec.request import Request
from bench.spec.resolve import RunSpec, resolve
from bench.spec.run_specs import every_run
from bench.spec.study import StudyRow

STUDY = """
title: Runs in shards
data: [digits]
seeds: [0, 1]
set: {train.epochs: 1, train.batch_size: 16}
tables:
  - name: divided
    title: Runs in shards
    rows:
      - {label: EW, method: ew}
      - {label: UW, method: uw}
      - {label: "UW, frozen", twin_of: UW}
"""


def specs(*methods: str, seeds: int = 3, data: str = "digits") -> list[RunSpec]:
    return [resolve(data, method, seed=seed) for seed in range(seeds) for method in methods]


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_every_run_is_in_one_shard_in_any_order(count: int) -> None:
    runs = [*specs("ew", "uw", "mgda", "nash_mtl"), *specs("ew", "cagrad", data="rooms")]
    shards = {spec.key: divide(runs, count).shard_of(spec) for spec in runs}
    assert set(shards.values()) <= {*range(1, count + 1)} and len(set(shards.values())) == min(count, len(runs))
    again = divide(random.Random(0).sample(runs, len(runs)), count)
    assert shards == {spec.key: again.shard_of(spec) for spec in runs}


def test_shards_cost_about_the_same_on_each_data_set() -> None:
    """They differ by no more than the most expensive run; with as many runs of one cost, by nothing."""
    runs = [*specs("ew", "uw", "mgda", "nash_mtl", "stl", seeds=7), *specs("ew", "cagrad", seeds=5, data="faces")]
    division = divide(runs, 4)
    for data in ("digits", "faces"):
        own = [spec for spec in runs if spec.data == data]
        loads = [sum(cost(spec) for spec in own if division.shard_of(spec) == index) for index in range(1, 5)]
        assert max(loads) - min(loads) <= max(map(cost, own)), (data, loads)
    even = specs("ew", "uw", seeds=8)
    assert sorted(divide(even, 4).shards.values()) == sorted([1, 2, 3, 4] * 4)


def test_runs_of_a_data_set_stay_where_they_are_when_others_are_found() -> None:
    names = ("digits", "rooms", "faces")
    by_data = {name: specs("ew", "uw", "mgda", data=name) for name in names}
    every = [spec for found in by_data.values() for spec in found]
    for count in (2, 3, 5):
        whole = divide(every, count)
        for name in names:
            some = divide([spec for spec in every if spec.data != name], count)
            others = [spec for spec in every if spec.data != name]
            assert [whole.shard_of(spec) for spec in others] == [some.shard_of(spec) for spec in others]


def test_a_data_set_that_is_found_later_is_named_and_left_to_the_next_command(tmp_path: Path) -> None:
    runs = [*specs("ew", "uw"), *specs("ew", data="rooms")]
    division = divide([spec for spec in runs if spec.data == "digits"], 2)
    plan = make_plan(Request([], [], range(1)), tmp_path, tmp_path)
    parts = [_own_part(replace(plan, pending=runs), division, Shard(index, 2)) for index in (1, 2)]
    assert {spec.data for part in parts for spec in part.pending} == {"digits"}
    for index, part in enumerate(parts, 1):
        first, second = part.remarks[-2:]
        assert first.startswith(f"Shard {index} of 2: ") and "rooms" not in first
        assert second == "rooms: found after this command had begun; the same command trains its part afterwards."


def test_a_twin_is_in_the_shard_of_all_seeds_of_its_source(tmp_path: Path) -> None:
    rows = [StudyRow(method=name, label=name.upper()) for name in ("ew", "uw", "mgda")]
    request = Request([*rows, StudyRow(label="UW, frozen", twin_of="UW")], ["digits"], range(4))
    runs = every_run(request, tmp_path, tmp_path)
    assert len(runs) == 16
    division = divide(runs, 5)
    assert len({division.shard_of(spec) for spec in runs if spec.method in ("uw", "frozen")}) == 1
    # The twin that is planned once its source is finished has other weights, and so another name.
    twin = next(spec for spec in runs if spec.weighting == "frozen")
    weighting = replace(twin.settings.weighting, weights=(1.0, 2.0, 3.0, 4.0))  # type: ignore[call-arg]
    planned = replace(twin, settings=replace(twin.settings, weighting=weighting), overrides={"weighting.weights": 1})
    assert planned.key != twin.key and division.shard_of(planned) == division.shard_of(twin)


def test_the_runs_of_all_shards_are_those_of_the_request(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    listed: list[set[str]] = []
    for words in (["--shard", "1/2"], ["--shard", "2/2"], []):
        where = ["--data-root", str(data_root), "--results", str(tmp_path / "results"), "--device", "cpu"]
        assert run.main(["--study", str(tmp_path / "study.yaml"), *where, "--dry-run", *words]) == 0
        out = capsys.readouterr().out
        listed.append({line for line in out.splitlines() if line.startswith("would")})
        assert not words or f"Shard {words[1][0]} of 2: " in out
    assert listed[0] | listed[1] == listed[2] and not listed[0] & listed[1] and len(listed[2]) == 6


@pytest.mark.slow
def test_all_shards_together_are_the_whole_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second shard is asked first and, with its runs finished, again: the division stays."""
    (tmp_path / "study.yaml").write_text(STUDY)
    data_root = write_digits(tmp_path / "data").parent
    where = ["--study", str(tmp_path / "study.yaml"), "--data-root", str(data_root), "--device", "cpu", "--jobs", "1"]
    command = [*where, "--results", str(tmp_path / "results")]
    assert run.main([*command, "--shard", "2/2"]) == 0
    assert "Shard 2 of 2: 2 of 6 runs; 4 unfinished runs are left to the other shards." in capsys.readouterr().out
    assert {record.method for record in read_records(tmp_path / "results")} == {"ew"}
    assert run.main([*command, "--shard", "2/2"]) == 0
    assert "All 2 runs are already in" in capsys.readouterr().out
    assert run.main([*command, "--shard", "1/2"]) == 0
    assert "Shard 1 of 2: 4 of 6 runs; the other shards have finished theirs." in capsys.readouterr().out
    assert run.main(command) == 0
    assert "All 6 runs are already in" in capsys.readouterr().out
    assert run.main([*where, "--results", str(tmp_path / "whole")]) == 0
    assert len(numbers(tmp_path / "whole")) >= 12
    assert not differences(numbers(tmp_path / "results"), numbers(tmp_path / "whole"))


def test_each_shard_says_itself_how_far_force_has_come(tmp_path: Path) -> None:
    """Shards train at the same time: a file that they share would lose what others have written."""
    request = Request([StudyRow(method="ew", label="EW")], ["digits"], [0, 1])
    first, second, all_runs = (forced_runs(request, tmp_path, shard) for shard in ("1/2", "2/2", ""))
    first.add(specs("ew")[0])
    second.add(specs("ew")[1])
    assert len({first.path, second.path, all_runs.path}) == 3
    assert forced_runs(request, tmp_path, "1/2").done == {specs("ew")[0].key}
    assert not forced_runs(request, tmp_path).done


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "1", "1/2/3", "-1/2", "1/100000", "a/b", "1 /2"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="expected i/n"):
        shard(text)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--partition gpu", "--partition: expected --launcher slurm, found --launcher local."),
        ("--wait --launcher ray", "--wait: expected --launcher slurm, found --launcher ray."),
        ("--address auto", "--address: expected --launcher ray, found --launcher local."),
        ("--launcher slurm", "--launcher slurm: expected --jobs N, the number of jobs, found none."),
        ("--launcher slurm --jobs 2 --shard 1/2", "--shard: expected none with --launcher slurm"),
        ("--launcher slurm --jobs 2 --slurm array=3", "--slurm array: expected --jobs instead"),
        ("--launcher slurm --jobs 2 --slurm mem", "expected an option of sbatch as key=value"),
        ("--launcher ray --address ray://host:10001", "--address: expected the address of a cluster"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: str, expected: str, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "ray://" in options and find_spec("ray") is None:
        pytest.skip("Ray is part of the extra cluster")
    request = ["--method", "ew", "--data", "digits", "--data-root", str(data_root), "--results", str(tmp_path)]
    try:
        code = run.main([*request, *options.split()])
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and expected in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_trials_that_follow_from_scores_are_not_divided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = ["--method", "ew", "--data", "digits", "--results", str(tmp_path), "--sampler", "tpe", "--shard", "1/2"]
    assert tune.main(request) == 2
    assert "--sampler: expected qmc with shards, found tpe" in capsys.readouterr().err


@pytest.mark.parametrize("launcher", ["ray", "slurm --jobs 2"])
def test_a_missing_package_is_named_with_its_installation(
    launcher: str,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    request = ["--method", "ew", "--data", "digits", "--data-root", str(data_root), "--results", str(tmp_path)]
    assert run.main([*request, "--seeds", "0", "--launcher", *launcher.split()]) == 2
    error = capsys.readouterr().err
    assert "found none; install it: pip install -e '.[cluster]' -c constraints.txt" in error


def test_what_a_job_repeats_is_the_command_without_its_launcher() -> None:
    words = "--data digits faces --launcher slurm --slurm mem=8G gres=gpu:1 --jobs=4 --set a.b=1 --wait --time 60"
    assert " ".join(without_launcher(words.split())) == "--data digits faces --set a.b=1"
    ray = "--address auto --launcher=ray --study paper --jobs 3 --force --per-device 2"
    assert " ".join(without_launcher(ray.split())) == "--study paper --force --per-device 2"


def test_processors_are_those_that_slurm_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    here = cores()
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert cores() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "100000")
    assert cores() == here


def test_the_claim_of_a_lost_node_is_taken_at_once_unless_it_lives(tmp_path: Path) -> None:
    """Its processes can't be seen from here. If it has counted up since, it is waited for, as any other."""
    (spec,) = specs("ew", seeds=1)
    config = LaunchConfig({}, tmp_path, "cpu", 1)
    folder = config.folder(spec)
    taken = take(folder, 1, 60)
    assert not isinstance(taken, Holder)
    holder = holder_of(folder)
    assert holder is not None
    elsewhere = holder.model_copy(update={"host": "another machine"})
    (folder / "claim.json").write_text(elsewhere.model_copy(update={"beats": 1}).model_dump_json())
    assert RunQueue([spec], config, lambda event: None, ("lost",), elsewhere).next(1) is None
    assert RunQueue([spec], config, lambda event: None).next(1) is None
    (folder / "claim.json").write_text(elsewhere.model_dump_json())
    start = time.monotonic()
    assignment = RunQueue([spec], config, lambda event: None, ("lost",), elsewhere).next(1)
    assert assignment is not None and assignment.lost == ("lost",) and time.monotonic() - start < 5
    assert assignment.claim.generation == 2

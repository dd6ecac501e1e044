"""Runs on a Ray cluster: the numbers of one machine, whatever happens to its nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from data_trees import write_digits
from kills import differences, numbers

from bench import ROOT, run
from bench.launch.cluster import ClusterUnavailable, RayOptions
from bench.launch.config import LaunchConfig
from bench.launch.local import run_locally
from bench.launch.messages import Event
from bench.launch.ray_cluster import resources, run_on_ray
from bench.launch.ray_node import Shared, require_shared
from bench.records.claim import CLAIM, holder_of
from bench.records.files import StorageError
from bench.records.store import CHECKPOINT, RECORD, read_record
from bench.spec.resolve import RunSpec, resolve

PATIENCE = 600  # seconds: each process of Ray imports torch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data"))


def specs(*methods: str, epochs: int = 4) -> list[RunSpec]:
    return [resolve("digits", name, assignments={"train.epochs": epochs, "train.batch_size": 4}) for name in methods]


def test_a_node_that_does_not_share_the_folders_is_named(tmp_path: Path) -> None:
    config = LaunchConfig({}, tmp_path / "results", "cpu", 1)
    shared = Shared(config.results / ".launch-1", ROOT)
    with pytest.raises(StorageError, match=r"expected the folder of results that this command writes, found none;"):
        require_shared(config, shared, tmp_path)
    config.results.mkdir()
    with pytest.raises(StorageError, match=r"that this command writes, found another folder; share it with all nodes"):
        require_shared(config, shared, tmp_path)
    shared.mark.touch()
    with pytest.raises(StorageError, match="expected a folder of data, found none"):
        require_shared(config, shared, tmp_path / "data")
    require_shared(config, shared, tmp_path)
    with pytest.raises(StorageError, match="expected this checkout, found the code of"):
        require_shared(config, replace(shared, code=tmp_path), tmp_path)


def test_a_run_occupies_its_threads_and_its_share_of_an_accelerator(tmp_path: Path) -> None:
    (spec,) = specs("ew")
    several = resolve("digits", "ew", assignments={"compute.processes": 2})
    cpu, cuda = (LaunchConfig({}, tmp_path, device, threads=3) for device in ("cpu", "cuda"))
    assert resources(spec, cpu, 4) == {"num_cpus": 3}
    assert resources(spec, cuda, 4) == {"num_cpus": 3, "num_gpus": 0.25}
    assert resources(several, cuda, 1) == {"num_cpus": 6, "num_gpus": 2}


@pytest.mark.parametrize(
    ("address", "expected"), [("127.0.0.1:1", "Connection refused"), ("127.0.0.1:x", "invalid literal")]
)
def test_a_cluster_that_does_not_answer_is_named(address: str, expected: str, tmp_path: Path) -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is part of the extra cluster")
    with pytest.raises(ClusterUnavailable, match=f"Expected a Ray cluster at {address}, found: .*{expected}"):
        run_on_ray(specs("ew"), LaunchConfig({}, tmp_path, "cpu", 1), RayOptions(address), lambda event: None)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def nodes() -> Iterator[str]:
    """The address of a cluster: a head where nothing can train, and two nodes with one processor each."""
    pytest.importorskip("ray", reason="Ray is part of the extra cluster")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


def node_of(process: int) -> psutil.Process:
    """The raylet of the node on which a worker of ours runs."""
    return next(one for one in psutil.Process(process).parents() if one.name() == "raylet")


def kill_node(process: int) -> None:
    """Kills a node with all its processes, as a machine that loses power."""
    raylet = node_of(process)
    for one in [raylet, *raylet.children(recursive=True)]:
        one.kill()


@pytest.mark.slow
def test_a_run_that_fits_on_no_node_is_named(nodes: str, data: Path, tmp_path: Path) -> None:
    notes: list[str] = []

    def stop(event: Event) -> None:
        notes.append(event.note)
        raise KeyboardInterrupt

    config = LaunchConfig({"digits": data}, tmp_path / "results", "cpu", threads=9)
    with pytest.raises(KeyboardInterrupt):
        run_on_ray(specs("ew"), config, RayOptions(nodes), stop)
    assert notes == ["no node of the cluster has what this run needs (9 CPU); Ray waits for one that has"]
    assert not list(config.results.iterdir())


@pytest.mark.slow
def test_a_study_survives_the_loss_of_a_node(
    nodes: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two nodes is killed while both train; the records are those of a local launch.

    The results have a relative path, and the nodes another working directory.
    """
    runs = specs("ew", "uw", "mgda", epochs=60)  # the second begins long before the first ends
    local = LaunchConfig({"digits": data}, tmp_path / "local", "cpu", 1)
    run_locally(runs, local, 1, lambda event: None)
    monkeypatch.chdir(tmp_path)
    config = replace(local, results=Path("ray"))
    events: list[Event] = []
    killed: list[RunSpec] = []

    def follow(event: Event) -> None:
        events.append(event)
        holders = {spec.key: holder_of(config.folder(spec)) for spec in runs}
        training = [holder for holder in holders.values() if holder is not None]
        if event.kind == "epoch" and event.epochs >= 1 and not killed and len(training) == 2:
            assert len({node_of(holder.process).pid for holder in training}) == 2
            holder = holders[event.spec.key]
            if holder is not None:
                killed.append(event.spec)
                kill_node(holder.process)

    run_on_ray(runs, config, RayOptions(nodes), follow)
    ends = {event.spec.key: event.record for event in events if event.kind == "end"}
    assert {key: record and record.status for key, record in ends.items()} == {spec.key: "done" for spec in runs}
    (lost,) = killed
    notes = [event.note for event in events if event.kind == "note" and event.spec == lost]
    assert len(notes) == 1 and "it is tried again, from its checkpoint" in notes[0], notes
    assert not [event.note for event in events if "no node of the cluster has" in event.note]
    record = read_record(config.folder(lost) / RECORD)
    assert len(record.lost) == 1 and record.lost[0].startswith("after epoch ")
    assert not list(config.results.rglob(CLAIM)) and not list(config.results.glob(".launch-*"))
    assert not differences(numbers(config.results), numbers(local.results))


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_command_that_is_stopped_keeps_the_checkpoints(data: Path, tmp_path: Path) -> None:
    """Ctrl-C, with a cluster of the command's own, of which nothing is left."""
    pytest.importorskip("ray", reason="Ray is part of the extra cluster")
    words = "--method ew uw --data digits --seeds 0 --epochs 40 --set train.batch_size=4 --device cpu --jobs 2"
    command = [*words.split(), "--data-root", str(data.parent), "--results", str(tmp_path / "ray")]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.run", *command, "--launcher", "ray"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: process.poll() is not None or len(list((tmp_path / "ray").rglob(CHECKPOINT))) == 2)
    below = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Interrupted: 0 runs are finished and kept" in error, error
    until(lambda: not [one for one in below if one.is_running() and one.status() != psutil.STATUS_ZOMBIE])
    assert len(list((tmp_path / "ray").rglob(CHECKPOINT))) == 2
    assert not list((tmp_path / "ray").rglob(CLAIM)) and not list((tmp_path / "ray").glob(".launch-*"))
    assert run.main(command) == 0
    assert run.main([*command[:-1], str(tmp_path / "whole")]) == 0
    assert not differences(numbers(tmp_path / "ray"), numbers(tmp_path / "whole"))

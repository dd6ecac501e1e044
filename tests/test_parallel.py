"""Data-parallel training: two processes take the steps of one."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from two_processes import Case, Partner, after_steps, partner

from bench import run, speed
from bench.cli.request import jobs_at_a_time
from bench.engine.hardware import hardware_errors, hardware_remarks
from bench.engine.parallel import device_of_rank, open_store
from bench.spec.request import Request
from bench.spec.resolve import resolve
from bench.spec.settings import SpecError
from bench.spec.study import StudyRow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def other() -> Iterator[Partner]:
    with partner() as found:
        yield found


CASES = [
    Case("digits", "ew"),
    Case("digits", "uw"),
    Case("digits", "famo"),
    Case("digits", "cagrad"),
    Case("digits", "mgda", settings={"train.cosines_every": 1}),
    Case("digits", "imtl", settings={"train.accumulate": 2}),
    Case("digits", "ew", "normal"),
    Case("digits", "cagrad", "normal"),
    Case("faces", "mgda", settings={"weighting.grad_space": "representation"}),
]
SLOW = [
    Case("digits", "dwa", settings={"heads.rule": "plain", "train.clip_norm": 0.1}),
    Case("digits", "ew", settings={"train.accumulate": 2}),
    Case("digits", "mgda", settings={"weighting.every": 2, "weighting.momentum": 0.5}),
    Case("digits", "ew", "normal", {"train.accumulate": 2}),
    Case("digits", "uw", "normal", {"arch.updates": "alternating"}),
    Case("faces", "mgda", settings={"weighting.grad_space": "last_block"}),
]


@pytest.mark.parametrize("case", [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)], ids=str)
def test_two_processes_take_the_steps_of_one(case: Case, other: Partner) -> None:
    here, there = other.after_steps(case)
    alone = after_steps(case)
    assert here.keys() == there.keys() == alone.keys()
    for name, values in alone.items():
        assert torch.equal(here[name], there[name]), name
        torch.testing.assert_close(here[name], values, rtol=1e-6, atol=1e-6, msg=name)
    assert all((alone[f"losses {step}"] - alone["losses 0"]).abs().max() > 1e-4 for step in (1, 2))


@pytest.mark.parametrize("settings", [{}, {"data.augment": True}], ids=str)
@pytest.mark.parametrize("weighting", ["uw", "cagrad"])
def test_masked_losses_are_averaged_over_parts_as_over_micro_batches(
    weighting: str, settings: dict[str, Any], other: Partner
) -> None:
    case = Case("rooms", weighting, settings=settings)
    here, _ = other.after_steps(case)
    micro, whole = after_steps(case, **{"train.accumulate": 2}), after_steps(case)
    for name, values in micro.items():
        torch.testing.assert_close(here[name], values, rtol=1e-6, atol=1e-6, msg=name)
    assert (here["losses 0"] - whole["losses 0"]).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("ew", {"compute.processes": 0}, "`processes` must be from 1 to 64, found 0"),
        ("ew", {"compute.processes": 3}, "expected a divisor of train.batch_size = 64, found 3"),
        ("ew", {"compute.processes": 4, "train.accumulate": 32}, "= 64 / train.accumulate = 32, found 4"),
        ("graddrop", {"compute.processes": 2}, "expected 1 with graddrop, which needs the whole Jacobian, found 2"),
        ("modo", {"compute.processes": 2}, "expected 1 with modo, which reads several batches, found 2"),
    ],
)
def test_what_several_processes_cannot_train_is_refused(
    method: str, settings: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SpecError) as error:
        resolve("digits", method, assignments=settings)
    assert message in str(error.value) and "\n" not in str(error.value)
    words = ["--method", method, "--data", "digits", "--seeds", "0", "--data-root", str(tmp_path)]
    words += ["--results", str(tmp_path), "--dry-run", "--set", *(f"{key}={value}" for key, value in settings.items())]
    assert run.main(words) == 2
    assert message in capsys.readouterr().err


def test_only_this_machine_can_join_a_run() -> None:
    store = open_store(2)
    connections = [c for c in psutil.Process().net_connections() if c.laddr.port == store.port]
    assert [c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN] == ["127.0.0.1"]
    store.set("greeting", "hello")
    assert open_store(2, store.port).get("greeting") == b"hello"


@pytest.mark.parametrize(
    ("settings", "jobs"),
    [
        ({}, 4),
        ({"compute.processes": 2}, 2),
        ({"Compute.Processes": 2.0}, 2),
        ({"compute.processes": 8}, 1),
        ({"compute.processes": "many"}, 4),
    ],
    ids=str,
)
def test_every_process_has_a_core(settings: dict[str, Any], jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.cli.request.cores", lambda: 4)
    request = Request([StudyRow(method="ew", set=settings)], ["digits"], [0])
    assert jobs_at_a_time(Namespace(jobs=None), CPU, request) == jobs
    assert jobs_at_a_time(Namespace(jobs=3), CPU, request) == 3
    assert jobs_at_a_time(Namespace(jobs=None), torch.device("cuda"), request) == 1


def test_a_benchmark_of_steps_has_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["step", "--methods", "ew", "--shapes", "office", "--device", "cpu", "--results", str(tmp_path)]
    assert speed.main([*words, "--set", "compute.processes=2"]) == 2
    assert "compute.processes: expected 1, since one process takes each step, found 2." in capsys.readouterr().err


def test_each_process_needs_its_own_accelerator() -> None:
    two, count = [resolve("digits", "ew", assignments={"compute.processes": 2})], torch.accelerator.device_count()
    last = torch.device("cuda", max(count - 1, 0))
    assert hardware_errors(two, CPU) == hardware_errors([resolve("digits", "ew")], last) == []
    (error,) = hardware_errors(two, last)
    assert error.startswith(f"compute.processes: expected at most {min(count, 1)}, one for each cuda device")
    (remark,) = hardware_remarks(two, last)
    assert remark.startswith("compute.processes: tested without a real accelerator only")
    assert device_of_rank(CPU, 1) == CPU
    assert [str(device_of_rank(torch.device(name), 1)) for name in ("cuda", "cuda:2")] == ["cuda:1", "cuda:3"]

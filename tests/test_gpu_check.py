"""The check of an accelerator, on the pretend device and as a rehearsal: it passes where all is well, and finds faults.

What counts waits on CUDA runs there only: here, warnings like its own are counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pretend import tensor as pretend_tensor
from pretend.checking import counter
from pretend.device import DEVICE, available

from bench import ROOT, gpu_check
from bench.engine.precision import choose_kernels
from bench.hardware_check.attempts import NO_TIME, Name, attempt
from bench.hardware_check.deadline import Deadline
from bench.hardware_check.every_step import check_steps
from bench.hardware_check.problems import OURS, Places, Problem, read_problem, spec_of
from bench.hardware_check.settings import check_products, check_settings
from bench.hardware_check.speed import Case, cases, measure_speed
from bench.hardware_check.steps import CPU, Steps, take_steps
from bench.hardware_check.verdict import parity
from bench.hardware_check.waits import counted_by_cuda
from bench.records.all_records import read_records
from bench.records.hardware import Check, HardwareRecord, read_hardware, write_hardware
from bench.records.store import RecordError
from bench.reporting.hardware import hardware_page
from bench.spec.settings import ComputeSettings
from methods import WEIGHTINGS
from methods.contract import HeadRule, Needs, Signal, State, Update, WeightingInfo

NAME = Name("parity", "digits, hps", "ew")


@dataclass(frozen=True)
class ReadsTwice:
    """A planted fault: equal weights, after two values were read from the device."""

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def init(self, n_tasks: int) -> State:
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        first, second = signal.losses[0].item(), signal.losses[1].item()
        return Update(weights=torch.ones_like(signal.losses) * (first + second) / (first + second), state=state)


@pytest.fixture
def problem(data_root: Path) -> Iterator[Problem]:
    with available():
        yield read_problem("digits", Places(data_root), DEVICE)


def checks_of(problem: Problem, *weightings: str) -> dict[str, Check]:
    """The checks of the plain architecture, by part."""
    found = islice(check_steps(problem, weightings, counter, Deadline(60)), 3 * len(weightings))
    return {check.part: check for check in found}


def test_without_an_accelerator_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Expected an accelerator, found none on this machine; ") and error.count("\n") == 1
    assert gpu_check.main(["--device", "cpu", "--data", "office31"]) == 2
    assert "Unknown embedded data set 'office31'" in capsys.readouterr().err
    for wrong in (["--parts", "stepz"], ["--data", "office31"], ["--weightings", "mgdb"]):
        assert gpu_check.main(wrong) == 2
        assert capsys.readouterr().err.startswith("Unknown ")


def test_a_rehearsal_compares_the_cpu_with_itself(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--device", "cpu", "--machine", "here", "--data", "digits", "--parts", "steps"]
    chosen = [*options, "--weightings", "ew"]
    out = tmp_path / "results" / "gpu"
    assert gpu_check.main([*chosen, "--out", str(out), "--data-root", str(data_root)]) == 0
    record = read_hardware(out / "here" / "record.json")
    compared = [check for check in record.checks if check.part == "parity"]
    assert len(compared) == 2 and all(set(check.measured.values()) == {0.0} for check in compared)
    assert {check.detail for check in record.checks if check.outcome == "not run"} == {
        "waits are not counted on this device",
        "not chosen",
    }
    assert all(check.outcome == "passed" for check in record.checks if check.part == "bf16")
    assert "A rehearsal" in capsys.readouterr().out
    assert "A rehearsal" in (out / "here" / "README.md").read_text(encoding="utf-8")
    # The folder lies where data sets have theirs, and is not taken for one by what reads records.
    assert read_records(tmp_path / "results") == []


def test_steps_on_the_device_pass(problem: Problem) -> None:
    for weighting, waits in (("ew", 0), ("cagrad", 1)):
        found = checks_of(problem, weighting)
        assert {part: check.outcome for part, check in found.items()} == dict.fromkeys(
            ("parity", "waits", "bf16"), "passed"
        ), found
        assert set(found["parity"].measured.values()) == {0.0} and found["waits"].measured == {"waits": waits}
        assert 0 < found["bf16"].measured["gradient"] < 1


def test_a_weighting_that_waits_is_found_and_its_lines_are_named(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WEIGHTINGS, "reads_twice", WeightingInfo("Reads twice", ReadsTwice, "none"))
    found = checks_of(problem, "reads_twice")
    line = Path(__file__).read_text(encoding="utf-8").split(".item(), signal")[0].count("\n") + 1
    assert found["waits"].outcome == "failed"
    assert f"tests/test_gpu_check.py:{line} (2)" in found["waits"].detail
    assert found["parity"].outcome == "passed"


@pytest.mark.parametrize(("wrong", "word"), [("_log_softmax", "first losses"), ("convolution_backward", "gradient")])
def test_an_operation_with_a_wrong_result_is_found(
    wrong: str, word: str, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = pretend_tensor._on_cpu

    def planted(func: Any, args: Any, kwargs: Any) -> Any:
        result = right(func, args, kwargs)
        if func.overloadpacket is not getattr(torch.ops.aten, wrong):
            return result
        parts = result if isinstance(result, tuple) else (result,)
        scaled = tuple(part if part is None else part * 1.001 for part in parts)
        return scaled if isinstance(result, tuple) else scaled[0]

    monkeypatch.setattr(pretend_tensor, "_on_cpu", planted)
    check = checks_of(problem, "ew")["parity"]
    assert check.outcome == "failed" and f"{word}: expected at most" in check.detail
    assert wrong == "_log_softmax" or "first losses" not in check.detail


@pytest.mark.parametrize("coarse", [(), ("mm",), ("convolution",)])
def test_products_in_less_than_single_precision_are_found(
    coarse: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch 2.11 multiplied in convolutions on an H200: with ten bits of mantissa, whatever was set for cuDNN."""
    right = pretend_tensor._on_cpu

    def planted(func: Any, args: Any, kwargs: Any) -> Any:
        if coarse and func.overloadpacket is getattr(torch.ops.aten, coarse[0]):
            args = tuple(x.half().float() if isinstance(x, torch.Tensor) else x for x in args)
        return right(func, args, kwargs)

    monkeypatch.setattr(pretend_tensor, "_on_cpu", planted)
    with available():
        (check,) = check_products(DEVICE, Deadline(60))
    assert check.outcome == ("failed" if coarse else "passed"), check
    assert set(check.measured) == {"products", "convolutions", "channels_last"}


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_set_for_every_kind_of_operation(tf32: bool) -> None:
    cudnn: Any = torch.backends.cudnn
    parts = (torch.backends.cuda.matmul, cudnn, cudnn.conv, cudnn.rnn)
    before = [part.fp32_precision for part in parts]
    try:
        choose_kernels(ComputeSettings(tf32=tf32))
        assert {part.fp32_precision for part in parts} == {"tf32" if tf32 else "ieee"}
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


def test_an_error_on_the_device_is_reported_and_the_others_go_on(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ReadsTwice, signal: Signal, state: State) -> Update:
        raise RuntimeError(f"{ROOT}/methods/x.py: expected a kernel, found none")

    monkeypatch.setattr(ReadsTwice, "step", broken)
    monkeypatch.setitem(WEIGHTINGS, "broken", WeightingInfo("Broken", ReadsTwice, "none"))
    found = list(islice(check_steps(problem, ["broken", "ew"], counter, Deadline(60)), 6))
    assert [check.outcome for check in found[:3]] == ["failed"] * 3 and "expected a kernel" in found[0].detail
    assert str(ROOT) not in found[0].detail
    assert found[3].outcome == "passed" and found[3].subject == "ew"


def steps(scale: float = 1.0, first: float = 1.0) -> Steps:
    values = torch.linspace(1, 2, 6, dtype=torch.float64)
    losses = scale * values.view(3, 2)
    losses[0] = first * values[:2]
    return Steps(losses, scale * values, scale * values, None)


@pytest.mark.parametrize(
    ("found", "perturbed", "outcome"),
    [
        (steps(1 + 9e-5), None, "passed"),
        (steps(1 + 9e-4), steps(1 + 1e-4), "passed"),  # within ten times what rounding does
        (steps(1 + 2e-3), steps(1 + 1e-4), "failed"),
        (steps(1 + 2e-3), (steps(1 + 1e-9), steps(1 + 3e-4)), "passed"),  # the second perturbation crosses a kink
        (steps(1.5), steps(1.2), "noted"),
        (steps(first=1 + 2e-4), None, "failed"),  # nothing has amplified rounding yet
        (steps(float("nan")), None, "failed"),
    ],
)
def test_what_is_allowed(found: Steps, perturbed: Steps | tuple[Steps, ...] | None, outcome: str) -> None:
    def amplified(draw: int) -> Steps:
        assert perturbed is not None, "needed only beyond the tolerance"
        return perturbed[draw] if isinstance(perturbed, tuple) else perturbed

    assert parity(NAME, found, steps(), amplified).outcome == outcome


def test_a_perturbation_moves_steps_a_little(problem: Problem) -> None:
    spec = spec_of("digits", "ew", "hps")
    plain, moved, again = (take_steps(spec, problem, CPU, draw=draw) for draw in (None, 0, 0))
    apart = float((plain.gradient - moved.gradient).norm() / plain.gradient.norm())
    assert 1e-8 < apart < 1e-3 and moved.equals(again) and not moved.equals(plain)


@pytest.mark.slow
def test_settings_are_compared_or_say_why_not(problem: Problem) -> None:
    found = list(check_settings(problem, Deadline(60)))
    by_setting = {part: [c.outcome for c in found if c.part == part] for part in {c.part for c in found}}
    assert by_setting["channels-last"] == by_setting["repeats"] == ["passed"] * 4
    assert set(by_setting["TF32"]) == set(by_setting["CUDA graphs"]) == {"not run"}
    assert {c.detail for c in found if c.part == "TF32"} == {"it needs CUDA, this device is pretend"}


def test_nothing_is_left_out_without_a_word(problem: Problem) -> None:
    late = Deadline(0)
    found = list(check_steps(problem, OURS, counter, late))
    assert len(found) == 3 * 2 * len(OURS) and {check.detail for check in found} == {NO_TIME}
    planned = cases([problem], "cpu")
    timed = list(measure_speed(planned, DEVICE, late))
    assert len(timed) == len(planned) and {check.outcome for check, _ in timed} == {"not run"}


def test_too_little_memory_is_no_failure() -> None:
    def check() -> list[Check]:
        raise torch.OutOfMemoryError("Tried to allocate 3 TiB.")

    (found,) = attempt([NAME], Deadline(60), check)
    assert found.outcome == "not run" and found.detail == "OutOfMemoryError: Tried to allocate 3 TiB."


def test_speed_is_measured_by_the_device(problem: Problem) -> None:
    ((check, speed),) = measure_speed([Case(problem, "ew")], DEVICE, Deadline(60))
    assert check.outcome == "passed" and speed is not None
    assert speed.images == 4 * 64 and min(speed.seconds) > 0 and speed.peak_mib is not None and speed.peak_mib > 1


def test_waits_on_cuda_are_its_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[Any] = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with pytest.raises(ZeroDivisionError), counted_by_cuda() as places:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
        assert len(places()) == 3 and set(map(str, places())) <= {places()[0]}
        assert places()[0].startswith("tests/test_gpu_check.py:")
        raise ZeroDivisionError
    assert modes == ["warn", 2]


def record() -> HardwareRecord:
    check = NAME.failed("a | b <c> *d*", losses=float("nan"), gradient=1.0)
    return HardwareRecord(
        machine="here", device="pretend", date="2031-05-04T12:30:00+00:00", environment={"accelerator": "X | <Y>"},
        settings={}, seconds={"steps": 1.0}, checks=[check, replace(NAME, part="waits").not_run(NO_TIME)], speeds=[],
    )  # fmt: skip


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = write_hardware(tmp_path, record())
    assert read_hardware(path).model_dump_json() == record().model_dump_json()
    path.write_text(path.read_text().replace('"failed"', '"lost"'))
    with pytest.raises(RecordError, match=r"record.json: expected the check of an accelerator: checks.0.outcome"):
        read_hardware(path)


def test_the_page_shows_text_as_it_is() -> None:
    page = hardware_page(record())
    assert r"a \| b \<c> \*d\*" in page and r"X \| \<Y>" in page and "losses nan" in page
    assert "Failed: of 2 checks 0 passed, 1 failed, 0 noted, 1 not run." in page and "no time left" in page


@pytest.mark.slow
def test_the_whole_command_on_the_pretend_device(data_root: Path, tmp_path: Path) -> None:
    """All of its parts, and worker processes, which import the device as Python starts."""
    (tmp_path / "sitecustomize.py").write_text("from pretend.device import enable\nenable()\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "tests"), str(ROOT)])}
    words = f"--device pretend --data digits --weightings ew mgda --seconds 600 --size cpu --out {tmp_path / 'out'}"
    command = [sys.executable, "-m", "pretend.checking", *words.split(), "--data-root", str(data_root)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_hardware(tmp_path / "out" / "pretend-1" / "record.json")
    study = {check.subject: check for check in found.checks if check.part == "study"}
    assert len(study) == 9 and all(check.outcome == "passed" for check in study.values()), study
    assert [check.outcome for check in found.checks if check.part == "resumed"] == ["passed"]
    assert len(found.speeds) >= 4

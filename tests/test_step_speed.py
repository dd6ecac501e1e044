"""The benchmark of training steps: all candidates set the same gradients, an error ends one only, nothing is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import speed
from bench.profiling import harness, memory, step
from bench.profiling.peers import STEADY_EPOCH, Problem
from bench.profiling.step import BASELINES, MethodStep, StepBenchmark, StepFactory, baseline_step, time_steps
from bench.profiling.workloads import Workload, scaling_workloads
from bench.records.speed import BASELINE, OURS, SpeedRecord, merged, read_speeds
from methods import METHODS, WEIGHTINGS
from methods.adapters.counterparts import LIBMTL, TORCHJD, methods_in
from tests.peer_steps import assert_near
from tests.speed_factory import make_cell, make_speed, make_workload

CPU = torch.device("cpu")
MODULES = {LIBMTL: "LibMTL", TORCHJD: "torchjd"}
# Small networks without dropout and BatchNorm, whose steps don't depend on earlier ones.
TINY = {
    "office": Workload("office", "an input each", "digits", 2, (16, 16), 4),
    "nyuv2": Workload("nyuv2", "dense tasks", "rooms", 2, (16, 16), 3),
    "celeba": Workload("celeba", "many tasks", "faces", 2, (16, 16), 6),
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "workloads", lambda size: TINY)
    monkeypatch.setattr(harness, "_MOST_CALLS", 1)


def benchmark(workload: str = "office", **settings: Any) -> StepBenchmark:
    return StepBenchmark(TINY[workload], settings, CPU)


def needs(package: str) -> None:
    if find_spec(MODULES[package]) is None:
        pytest.skip(f"{package} is not installed")


def gradients(factory: StepFactory, which: MethodStep) -> tuple[Tensor, Tensor]:
    """The gradients after two steps: of the shared parameters, and of the heads."""
    take = factory.step(which)
    take()
    take()
    network = factory.network(which)
    parts = (network.shared_parameters(), list(network.heads.parameters()))
    shared, own = (torch.cat([gradient_of(p).flatten() for p in part]) for part in parts)
    return shared.clone(), own.clone()


def gradient_of(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


@pytest.mark.parametrize("package", MODULES)
def test_all_candidates_set_the_same_gradients(package: str) -> None:
    """EW's are the same sum in another order of single precision. For MGDA ours is to be the shortest.

    Their solvers stop when the weights move by less than 1e-5 (LibMTL) or 1e-3 (TorchJD), or after 250 or 100
    iterations, which leave TorchJD's Frank-Wolfe a few hundredths away for six tasks. EW and MGDA differ by a third of
    their length or more.
    """
    needs(package)
    for key in TINY:
        factory = StepFactory(benchmark(key))
        ours, own = gradients(factory, MethodStep(OURS, "ew", "one"))
        theirs, their_own = gradients(factory, MethodStep(package, "ew", "one"))
        assert_near(ours, theirs, 1e-5)
        assert_near(own, their_own, 1e-5)
        shortest, own = gradients(factory, MethodStep(OURS, "mgda", "per task"))
        short, their_own = gradients(factory, MethodStep(package, "mgda", "per task"))
        assert shortest.norm() <= short.norm() * (1 + 1e-5), key
        assert_near(shortest, short, {LIBMTL: 1e-3, TORCHJD: 0.1}[package])
        assert_near(own, their_own, 1e-5)


@pytest.mark.parametrize(("package", "methods"), [(LIBMTL, ("uw", "gls")), (TORCHJD, ("aligned_mtl", "upgrad"))])
def test_so_do_other_methods(package: str, methods: tuple[str, ...]) -> None:
    """Directions only: TorchJD's UPGrad and Aligned-MTL have the factor 1/m, and LibMTL's UW starts elsewhere."""
    needs(package)
    factory = StepFactory(benchmark("celeba"))
    for method in methods:
        passes = "one" if WEIGHTINGS[method].factory().needs == "losses" else "per task"
        ours, _ = gradients(factory, MethodStep(OURS, method, passes))
        theirs, _ = gradients(factory, MethodStep(package, method, passes))
        assert_near(ours / ours.norm(), theirs / theirs.norm(), 1e-3)


def test_methods_that_share_buffers_do_not_mix() -> None:
    factory = StepFactory(benchmark())
    methods = ("mgda", "ew", "graddrop", "uw", "cagrad")
    steps = {name: factory.step(MethodStep(OURS, name, "one")) for name in methods}
    for name in (*methods, *reversed(methods)):
        steps[name]()
    for name in ("mgda", "uw", "cagrad"):
        steps[name]()
        found = [gradient_of(p).clone() for p in factory.network(MethodStep(OURS, name, "one")).shared_parameters()]
        together = torch.cat([gradient.flatten() for gradient in found])
        alone = gradients(StepFactory(benchmark()), MethodStep(OURS, name, "one"))[0]
        # UW learns at every step, so its equal weights are smaller by now.
        assert_near(together / together.norm(), alone / alone.norm(), 1e-5)


@pytest.mark.parametrize("key", TINY)
def test_the_baseline_visits_every_task(key: str) -> None:
    """Each head runs forward and backward once; the shared part forward once per input, backward as `passes` says."""
    for which in BASELINES:
        factory = StepFactory(benchmark(key))
        network = factory.network(which)
        forward, backward = [0], [0]
        last = [m for m in network.encoder.modules() if isinstance(m, nn.Conv2d)][-1]
        last.register_forward_hook(lambda *_, count=forward: count.__setitem__(0, count[0] + 1))
        last.register_full_backward_hook(lambda *_, count=backward: count.__setitem__(0, count[0] + 1))
        visits = {task: [0] for task in range(len(network.heads))}
        for task, head in enumerate(network.heads):
            head.register_full_backward_hook(lambda *_, count=visits[task]: count.__setitem__(0, count[0] + 1))
        baseline_step(Problem(network, TINY[key].tasks, factory.batch), which.passes)
        assert {count for (count,) in visits.values()} == {1}, which
        inputs, tasks = len(factory.batch), TINY[key].n_tasks
        assert forward == [inputs] and backward == [tasks if which.passes == "per task" else inputs], which


def test_every_method_of_ours_is_timed() -> None:
    where = benchmark("nyuv2")
    workload, cells = time_steps(where, where.steps(list(METHODS), []), rounds=2)
    assert [cell.error for cell in cells if cell.error] == []
    assert all(len(cell.seconds) == 2 and min(cell.seconds) > 0 for cell in cells)
    assert [cell.method for cell in cells] == ["", "", *METHODS]
    assert [cell.passes for cell in cells if cell.candidate == BASELINE] == ["one", "per task"]
    assert {cell.method: cell.passes for cell in cells}["normal"] == "one"
    network = StepFactory(where).network(BASELINES[0])
    assert workload.parameters == sum(p.numel() for p in network.encoder.parameters())
    assert (workload.inputs, workload.tasks, workload.data) == (1, 3, "rooms")


@pytest.mark.parametrize("package", MODULES)
def test_packages_have_a_cell_for_each_method_of_theirs(package: str) -> None:
    needs(package)
    where = benchmark("celeba")
    steps = [which for which in where.steps(list(METHODS), [package]) if which.candidate == package]
    _, cells = time_steps(where, steps, rounds=1)
    assert {cell.method for cell in cells} == set(methods_in(package))
    # LibMTL's CAGrad is made for three tasks.
    errors = {cell.method: cell for cell in cells if cell.error}
    assert set(errors) == ({"cagrad"} if package == LIBMTL else set())
    for cell in errors.values():
        assert cell.seconds == [] and "\n" not in cell.error and cell.error.startswith("ValueError: ")


def test_an_error_in_the_middle_becomes_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter(range(2))

    def failing(problem: Problem, passes: str) -> None:
        if next(left, None) is None:
            raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(step, "baseline_step", failing)
    sampled: list[str] = []
    _, (baseline, ours) = time_steps(benchmark(), [BASELINES[0], MethodStep(OURS, "ew", "one")], 3, sampled.append)
    assert baseline.error == "RuntimeError: out of memory" and baseline.seconds == []
    assert len(ours.seconds) == 3 and len(sampled) == 2 * (step.WARMUP + 3)


def test_cached_weights_are_timed_over_a_whole_update_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[tuple[int, int]] = []
    original = step.compute_gradients

    def counting(state: Any, batch: Any, index: int, epoch: int, **further: Any) -> Any:
        counted.append((index, epoch))
        return original(state, batch, index, epoch, **further)

    monkeypatch.setattr(step, "compute_gradients", counting)
    time_steps(benchmark("celeba", **{"weighting.every": 3}), [MethodStep(OURS, "mgda", "per task")], rounds=1)
    assert counted == [(index, STEADY_EPOCH) for index in range(6)]


def test_peak_memory_of_two_steps() -> None:
    found = memory.peak_of_steps(benchmark("celeba"), MethodStep(OURS, "mgda", "per task"))
    assert found is None or 0 <= found < 1000


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own() -> None:
    """A process that dies has no peak."""
    steps = [BASELINES[0], MethodStep(OURS, "mgda", "per task")]
    peaks = memory.measure_memory(benchmark("celeba"), steps, threads=1)
    assert list(peaks) == steps[1:]
    found = peaks[steps[1]]
    assert found is None or 0 < found < 1000
    unknown = StepBenchmark(dataclasses.replace(TINY["office"], data="no such data set"), {}, CPU)
    assert memory.measure_memory(unknown, steps, 1) == {steps[1]: None}


def test_merging_keeps_the_workloads_that_were_not_measured() -> None:
    old = [make_workload("office"), make_workload("celeba")]
    earlier = make_speed([_cell(key, [1.0]) for key in ("office", "celeba")], old)
    new = make_speed(
        [_cell(key, [2.0]) for key in ("nyuv2", "office")], [make_workload("nyuv2"), make_workload("office")]
    )
    both = merged(earlier, new)
    assert [workload.key for workload in both.workloads] == ["office", "celeba", "nyuv2"]
    assert [(cell.workload, cell.seconds) for cell in both.cells] == [
        ("office", [0.002]),
        ("celeba", [0.001]),
        ("nyuv2", [0.002]),
    ]
    assert merged(None, new) == new
    for change in ({"threads": 9}, {"size": "paper"}, {"settings": {"compute.tf32": True}}, {"device": "cuda"}):
        assert merged(earlier.model_copy(update=change), new) == new


def _cell(workload: str, milliseconds: Sequence[float]) -> Any:
    return make_cell("ew", OURS, milliseconds, "one", workload=workload)


def test_names_of_machines() -> None:
    assert speed.machine_name("AMD EPYC 7B13", 2) == "amd-epyc-7b13-2-threads"
    assert speed.machine_name("Intel(R) Xeon(R) CPU @ 2.20GHz", 1) == "intel-xeon-cpu-1-thread"


def test_workloads_of_a_series() -> None:
    grown = scaling_workloads([2, 5], ["resnet50"])
    assert [(workload.key, workload.n_tasks, workload.series) for workload in grown] == [
        ("m = 2", 2, "tasks"),
        ("m = 5", 5, "tasks"),
        ("resnet50", 10, "parameters"),
    ]
    assert grown[2].spec("ew").settings.backbone.name == "resnet50"


def command(folder: Path, *more: str) -> int:
    return speed.main([*more, "--rounds", "1", "--threads", "1", "--results", str(folder), "--machine", "here"])


def only_record(folder: Path) -> SpeedRecord:
    (record,) = read_speeds(folder)
    return record


def test_command_without_the_word_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--methods", "EW", "mgda", "--no-memory", "--shapes")
    assert command(tmp_path, *arguments, "office", "celeba", "--out", str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert "MGDA" in printed and str(tmp_path / "here.json") in printed
    assert (tmp_path / "out" / "speed.md").exists()
    before = only_record(tmp_path)
    assert (before.machine, before.threads, before.size, before.rounds) == ("here", 1, "cpu", 1)
    assert command(tmp_path, "step", *arguments, "nyuv2") == 0
    after = only_record(tmp_path)
    assert [workload.key for workload in after.workloads] == ["office", "celeba", "nyuv2"]
    assert after.cells[: len(before.cells)] == before.cells and len(after.cells) == 3 * 4


def test_command_beside_a_package_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(speed, "import_errors", lambda packages: dict.fromkeys(packages, "it can't be imported"))
    assert command(tmp_path, "--methods", "ew", "--shapes", "office", "--no-memory", "--against", "torchjd") == 0
    assert "it can't be imported." in capsys.readouterr().out
    assert {cell.candidate for cell in only_record(tmp_path).cells} == {OURS, BASELINE}


def test_command_scaling(tmp_path: Path) -> None:
    arguments = ("scaling", "--tasks", "2", "3", "--backbones", "small_face", "--no-memory")
    assert command(tmp_path, *arguments, "--set", "backbone.name=small_face") == 0
    record = only_record(tmp_path)
    assert record.machine == "here-scaling"
    assert [(workload.key, workload.series, workload.tasks) for workload in record.workloads] == [
        ("m = 2", "tasks", 2),
        ("m = 3", "tasks", 3),
        ("small_face", "parameters", 10),
    ]
    assert {(cell.candidate, cell.method) for cell in record.cells} == {(BASELINE, ""), (OURS, "ew"), (OURS, "mgda")}


def test_command_shortcuts(tmp_path: Path) -> None:
    """Every approximation has a row beside EW and the exact method."""
    words = ["shortcuts", "--shapes", "office", "celeba", "--methods", "mgda", "--rounds", "1", "--no-memory"]
    assert speed.main([*words, "--threads", "1", "--results", str(tmp_path), "--machine", "here"]) == 0
    (record,) = read_speeds(tmp_path)
    assert record.machine == "here-shortcuts" and all(cell.seconds for cell in record.cells)
    found = {key: [cell.method for cell in record.cells if cell.workload == key] for key in ("office", "celeba")}
    shared = ["", "", "ew", "mgda", "mgda, every 5 steps", "mgda, every 20 steps", "mgda, last block"]
    assert found == {"office": shared, "celeba": [*shared, "mgda, representation"]}


def test_a_method_of_ours_that_fails_shows_in_the_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def failing(*arguments: Any, **further: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(step, "compute_gradients", failing)
    assert command(tmp_path, "--methods", "ew", "--shapes", "office", "--no-memory") == 1
    assert [cell.error for cell in only_record(tmp_path).cells if cell.candidate == OURS] == ["RuntimeError: no"]


def test_an_interruption_saves_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    original = speed.time_steps

    def interrupted(where: StepBenchmark, *arguments: Any) -> Any:
        if where.workload.key == "celeba":
            raise KeyboardInterrupt
        return original(where, *arguments)

    monkeypatch.setattr(speed, "time_steps", interrupted)
    assert command(tmp_path, "--methods", "ew", "--no-memory") == 130
    assert "Interrupted at celeba" in capsys.readouterr().out
    assert [workload.key for workload in only_record(tmp_path).workloads] == ["office", "nyuv2"]


def test_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words, message in (
        ("--methods mgad", "Did you mean 'mgda'?"),
        ("--shapes offics", "Unknown shape 'offics'"),
        ("--set weighting.c=-1 --methods cagrad", "weighting"),
        ("--set nonsense.x=1", "Unknown section of settings"),
        ("--device abacus", "Expected a device"),
        ("scaling --backbones resnet51", "Did you mean 'resnet"),
    ):
        assert command(tmp_path, *words.split()) == 2, words
        assert message in capsys.readouterr().err, words
        assert list(tmp_path.iterdir()) == [], words


def test_bad_command_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("walk", "--machine a/b", "--rounds 0", "--against nobody"):
        with pytest.raises(SystemExit) as ended:
            speed.main(words.split())
        assert ended.value.code == 2 and capsys.readouterr().err, words


def test_a_damaged_record_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "here.json").write_text("{}", encoding="utf-8")
    assert command(tmp_path, "--methods", "ew", "--shapes", "office") == 2
    assert "here.json" in capsys.readouterr().err

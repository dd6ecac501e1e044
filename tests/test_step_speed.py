"""The benchmark of training steps: everybody places the same gradients, nobody stops the race, nothing is lost."""

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
from bench.profiling.peers import STEADY_EPOCH, Problem, methods_of
from bench.profiling.scaling import scaling_shapes
from bench.profiling.solvers import LIBMTL, TORCHJD
from bench.profiling.step import Course, Entry, Stage, floor_step, machine_name, merged, race_steps
from bench.profiling.workloads import Shape
from bench.records.speed import FLOOR, OURS, SpeedRecord, read_speeds
from methods import METHODS, WEIGHTINGS
from tests.peer_steps import assert_near
from tests.speed_factory import make_cell, make_shape, make_speed

CPU = torch.device("cpu")
MODULES = {LIBMTL: "LibMTL", TORCHJD: "torchjd"}
# Small networks without dropout and BatchNorm: the same for everybody, whoever has trained on them before.
TINY = {
    "office": Shape("office", "an input each", "digits", 2, (16, 16), 4),
    "nyuv2": Shape("nyuv2", "dense tasks", "rooms", 2, (16, 16), 3),
    "celeba": Shape("celeba", "many tasks", "faces", 2, (16, 16), 6),
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "shapes", lambda size: TINY)
    monkeypatch.setattr(harness, "_MOST_CALLS", 1)


def course(shape: str = "office", **settings: Any) -> Course:
    return Course(TINY[shape], "", settings, CPU)


def needs(peer: str) -> None:
    if find_spec(MODULES[peer]) is None:
        pytest.skip(f"{peer} is not installed")


def placed(stage: Stage, entry: Entry) -> tuple[Tensor, Tensor]:
    """The gradients that two steps leave: of the shared parameters, and of the heads."""
    take = stage.step(entry)
    take()
    take()
    network = stage.network(entry)
    parts = (network.shared_parameters(), list(network.heads.parameters()))
    shared, own = (torch.cat([gradient_of(p).flatten() for p in part]) for part in parts)
    return shared.clone(), own.clone()


def gradient_of(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


@pytest.mark.parametrize("shape", TINY)
@pytest.mark.parametrize("peer", MODULES)
def test_everybody_places_the_same_gradients(peer: str, shape: str) -> None:
    """EW's are the same sum in another order of single precision. Of MGDA ours is to be the shortest.

    Its solvers differ: theirs stop where an iterate moves by less than 1e-5 (LibMTL) or 1e-3 (TorchJD) in the weights,
    or after 250 or 100 iterations, of which TorchJD's Frank-Wolfe gets no nearer than a few hundredths for six tasks.
    EW and MGDA are a third of their length apart or more.
    """
    needs(peer)
    stage = Stage(course(shape))
    ours, own = placed(stage, Entry(OURS, "ew", "one"))
    theirs, their_own = placed(stage, Entry(peer, "ew", "one"))
    assert_near(ours, theirs, 1e-5)
    assert_near(own, their_own, 1e-5)
    shortest, own = placed(stage, Entry(OURS, "mgda", "per task"))
    short, their_own = placed(stage, Entry(peer, "mgda", "per task"))
    assert shortest.norm() <= short.norm() * (1 + 1e-5)
    assert_near(shortest, short, {LIBMTL: 1e-3, TORCHJD: 0.1}[peer])
    assert_near(own, their_own, 1e-5)


@pytest.mark.parametrize(
    ("peer", "method"), [(LIBMTL, "uw"), (LIBMTL, "gls"), (TORCHJD, "aligned_mtl"), (TORCHJD, "upgrad")]
)
def test_so_do_other_methods(peer: str, method: str) -> None:
    """TorchJD's UPGrad and Aligned-MTL weigh by 1/m where ours sums, LibMTL's UW starts elsewhere: directions agree."""
    needs(peer)
    stage = Stage(course("celeba"))
    passes = "one" if WEIGHTINGS[method].factory().needs == "losses" else "per task"
    ours, _ = placed(stage, Entry(OURS, method, passes))
    theirs, _ = placed(stage, Entry(peer, method, passes))
    assert_near(ours / ours.norm(), theirs / theirs.norm(), 1e-3)


def test_methods_that_share_buffers_do_not_mix() -> None:
    shared = Stage(course())
    methods = ("mgda", "ew", "graddrop", "uw", "cagrad")
    takes = {name: shared.step(Entry(OURS, name, "one")) for name in methods}
    for name in (*methods, *reversed(methods)):
        takes[name]()
    for name in ("mgda", "uw", "cagrad"):
        takes[name]()
        found = [gradient_of(p).clone() for p in shared.network(Entry(OURS, name, "one")).shared_parameters()]
        alone = placed(Stage(course()), Entry(OURS, name, "one"))[0]
        assert_near(torch.cat([gradient.flatten() for gradient in found]), alone, 1e-5)


@pytest.mark.parametrize("shape", TINY)
@pytest.mark.parametrize("passes", ["one", "per task"])
def test_the_floor_visits_every_task(shape: str, passes: Any) -> None:
    """Each head runs ahead and back once; the shared part ahead once per input, and back as often as `passes` says."""
    stage = Stage(course(shape))
    network = stage.network(Entry(FLOOR, "", passes))
    ahead, back = [0], [0]
    last = [m for m in network.encoder.modules() if isinstance(m, nn.Conv2d)][-1]
    last.register_forward_hook(lambda *_: ahead.__setitem__(0, ahead[0] + 1))
    last.register_full_backward_hook(lambda *_: back.__setitem__(0, back[0] + 1))
    visits = {task: [0] for task in range(len(network.heads))}
    for task, head in enumerate(network.heads):
        head.register_full_backward_hook(lambda *_, count=visits[task]: count.__setitem__(0, count[0] + 1))
    floor_step(Problem(network, TINY[shape].tasks, stage.batch), passes)
    assert {count for (count,) in visits.values()} == {1}
    inputs, tasks = len(stage.batch), TINY[shape].n_tasks
    assert ahead == [inputs] and back == [tasks if passes == "per task" else inputs]


def test_every_method_of_ours_is_timed() -> None:
    where = course("nyuv2")
    entries = where.entries(list(METHODS), [])
    shape, cells = race_steps(where, entries, rounds=2)
    assert [cell.fault for cell in cells if cell.fault] == []
    assert all(len(cell.seconds) == 2 and min(cell.seconds) > 0 for cell in cells)
    assert [cell.method for cell in cells] == ["", "", *METHODS]
    assert [cell.passes for cell in cells if cell.contestant == FLOOR] == ["one", "per task"]
    assert {cell.method: cell.passes for cell in cells}["normal"] == "one"
    network = Stage(where).network(entries[0])
    assert shape.parameters == sum(p.numel() for p in network.encoder.parameters())
    assert (shape.inputs, shape.tasks, shape.data) == (1, 3, "rooms")


@pytest.mark.parametrize("peer", MODULES)
def test_peers_have_a_cell_for_each_method_of_theirs(peer: str) -> None:
    needs(peer)
    where = course("celeba")
    entries = [entry for entry in where.entries(list(METHODS), [peer]) if entry.contestant == peer]
    _, cells = race_steps(where, entries, rounds=1)
    assert {cell.method for cell in cells} == set(methods_of(peer))
    # LibMTL's CAGrad is made for three tasks.
    faults = {cell.method: cell for cell in cells if cell.fault}
    assert set(faults) == ({"cagrad"} if peer == LIBMTL else set())
    for cell in faults.values():
        assert cell.seconds == [] and "\n" not in cell.fault and cell.fault.startswith("ValueError: ")


def test_a_fault_in_the_middle_becomes_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter(range(2))

    def failing(problem: Problem, passes: str) -> None:
        if next(left, None) is None:
            raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(step, "floor_step", failing)
    entries = [Entry(FLOOR, "", "one"), Entry(OURS, "ew", "one")]
    turns: list[Entry] = []
    _, (floor, ours) = race_steps(course(), entries, 3, turns.append)
    assert floor.fault == "RuntimeError: out of memory" and floor.seconds == []
    assert len(ours.seconds) == 3 and len(turns) == memory.turns(entries, 3, with_memory=False)


def test_a_renewed_weighting_is_timed_over_a_whole_period() -> None:
    where = course("celeba", **{"weighting.every": 3})
    counted: list[int] = []
    original = step.compute_gradients

    def counting(train_state: Any, batch: Any, index: int, epoch: int) -> Any:
        counted.append(index)
        assert epoch == STEADY_EPOCH
        return original(train_state, batch, index, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "compute_gradients", counting)
        race_steps(where, [Entry(OURS, "mgda", "per task")], rounds=1)
    assert counted == list(range(6))


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    where = course("celeba")
    entries = [Entry(FLOOR, "", "one"), Entry(OURS, "mgda", "per task")]
    peaks = memory.measure_memory(where, entries, threads=1)
    assert list(peaks) == entries[1:]
    found = peaks[entries[1]]
    assert found is None or 0 < found < 1000


def test_a_process_that_dies_has_no_peak() -> None:
    unknown = dataclasses.replace(TINY["office"], data="no such data set")
    assert memory.measure_memory(Course(unknown, "", {}, CPU), [Entry(OURS, "ew", "one")], 1) == {
        Entry(OURS, "ew", "one"): None
    }


def test_merging_keeps_the_shapes_that_were_not_measured() -> None:
    old = [make_shape("office"), make_shape("celeba")]
    earlier = make_speed([_cell(key, [1.0]) for key in ("office", "celeba")], old)
    new = make_speed([_cell(key, [2.0]) for key in ("nyuv2", "office")], [make_shape("nyuv2"), make_shape("office")])
    both = merged(earlier, new)
    assert [shape.key for shape in both.shapes] == ["office", "celeba", "nyuv2"]
    assert [(cell.shape, cell.seconds) for cell in both.cells] == [
        ("office", [0.002]),
        ("celeba", [0.001]),
        ("nyuv2", [0.002]),
    ]
    assert merged(None, new) == new
    for change in ({"threads": 9}, {"size": "paper"}, {"settings": {"compute.tf32": True}}, {"device": "cuda"}):
        assert merged(earlier.model_copy(update=change), new) == new


def _cell(shape: str, milliseconds: Sequence[float]) -> Any:
    return make_cell("ew", OURS, milliseconds, "one", shape=shape)


def test_names_of_machines() -> None:
    assert machine_name("AMD EPYC 7B13", 2) == "amd-epyc-7b13-2-threads"
    assert machine_name("Intel(R) Xeon(R) CPU @ 2.20GHz", 1) == "intel-xeon-cpu-1-thread"


def test_shapes_of_a_series() -> None:
    grown = scaling_shapes([2, 5], ["resnet50"])
    assert [(shape.key, shape.n_tasks, series) for shape, series in grown] == [
        ("m = 2", 2, "tasks"),
        ("m = 5", 5, "tasks"),
        ("resnet50", 10, "parameters"),
    ]
    assert grown[2][0].spec("ew").settings.backbone.name == "resnet50"


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
    assert [shape.key for shape in after.shapes] == ["office", "celeba", "nyuv2"]
    assert after.cells[: len(before.cells)] == before.cells and len(after.cells) == 3 * 4


def test_command_beside_a_peer_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(speed, "installed", lambda peers: dict.fromkeys(peers, "it can't be imported"))
    assert command(tmp_path, "--methods", "ew", "--shapes", "office", "--no-memory", "--against", "torchjd") == 0
    assert "it can't be imported." in capsys.readouterr().out
    assert {cell.contestant for cell in only_record(tmp_path).cells} == {OURS, FLOOR}


def test_command_scaling(tmp_path: Path) -> None:
    arguments = ("scaling", "--tasks", "2", "3", "--backbones", "small_face", "--no-memory")
    assert command(tmp_path, *arguments, "--set", "backbone.name=small_face") == 0
    record = only_record(tmp_path)
    assert record.machine == "here-scaling"
    assert [(shape.key, shape.series, shape.tasks) for shape in record.shapes] == [
        ("m = 2", "tasks", 2),
        ("m = 3", "tasks", 3),
        ("small_face", "parameters", 10),
    ]
    assert {(cell.contestant, cell.method) for cell in record.cells} == {(FLOOR, ""), (OURS, "ew"), (OURS, "mgda")}


def test_command_shortcuts(tmp_path: Path) -> None:
    """Rarer weights, and weights from less, are rows of their own beside EW and the method in full."""
    words = ["shortcuts", "--shapes", "office", "celeba", "--methods", "mgda", "--rounds", "1", "--no-memory"]
    assert speed.main([*words, "--threads", "1", "--results", str(tmp_path), "--machine", "here"]) == 0
    (record,) = read_speeds(tmp_path)
    assert record.machine == "here-shortcuts" and all(cell.seconds for cell in record.cells)
    found = {shape: [cell.method for cell in record.cells if cell.shape == shape] for shape in ("office", "celeba")}
    shared = ["", "", "ew", "mgda", "mgda, every 5 steps", "mgda, every 20 steps", "mgda, last block"]
    assert found == {"office": shared, "celeba": [*shared, "mgda, representation"]}


def test_a_method_of_ours_that_fails_shows_in_the_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def failing(*arguments: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(step, "compute_gradients", failing)
    assert command(tmp_path, "--methods", "ew", "--shapes", "office", "--no-memory") == 1
    assert [cell.fault for cell in only_record(tmp_path).cells if cell.contestant == OURS] == ["RuntimeError: no"]


def test_interrupted_keeps_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    original = speed.measure_course

    def interrupted(where: Course, *arguments: Any) -> Any:
        if where.shape.key == "celeba":
            raise KeyboardInterrupt
        return original(where, *arguments)

    monkeypatch.setattr(speed, "measure_course", interrupted)
    assert command(tmp_path, "--methods", "ew", "--no-memory") == 130
    assert "Interrupted at celeba" in capsys.readouterr().out
    assert [shape.key for shape in only_record(tmp_path).shapes] == ["office", "nyuv2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "mgad"], "Did you mean 'mgda'?"),
        (["--shapes", "offics"], "Unknown shape 'offics'"),
        (["--set", "weighting.c=-1", "--methods", "cagrad"], "weighting"),
        (["--set", "nonsense.x=1"], "Unknown section of settings"),
        (["--device", "abacus"], "Expected a device"),
        (["scaling", "--backbones", "resnet51"], "Did you mean 'resnet"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["walk"], ["--machine", "a/b"], ["--rounds", "0"], ["--against", "nobody"]])
def test_bad_command_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        speed.main(arguments)
    assert ended.value.code == 2 and capsys.readouterr().err


def test_a_damaged_record_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "here.json").write_text("{}", encoding="utf-8")
    assert command(tmp_path, "--methods", "ew", "--shapes", "office") == 2
    assert "here.json" in capsys.readouterr().err

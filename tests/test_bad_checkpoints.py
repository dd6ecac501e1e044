"""Checkpoints that can't be resumed: each is set aside, and the run is that of a new one."""

from __future__ import annotations

import errno
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic_splits import random_splits

from bench.engine import checkpoint, checkpoint_file
from bench.engine.build import build_network
from bench.engine.checkpoint import Origin, Start, start_or_resume
from bench.engine.checkpoint_file import Reached, reached
from bench.engine.context import RunContext
from bench.engine.history import History
from bench.engine.loop import train
from bench.engine.signals import Stopped, stopped_by
from bench.engine.train_state import make_train_state
from bench.inventory.states import look_at
from bench.records.files import StorageError
from bench.records.record import Record
from bench.records.store import CHECKPOINT, CURVE, POSITIONS
from bench.spec.resolve import RunSpec, resolve
from datasets import DATASETS

CPU = torch.device("cpu")
BAD, OTHER = f"{CHECKPOINT}.bad", f"{CHECKPOINT}.other"


class Stop(Exception):
    """An interruption after an epoch."""


@dataclass(frozen=True)
class Trained:
    """A run with positions and a weighting that learns, stopped after one epoch of two.

    partial: its checkpoint after one step more, of two.
    fingerprint: of its data.
    fresh: the record of the run that was never stopped; its folder holds its curves.
    """

    spec: RunSpec
    checkpoint: Path
    partial: Path
    fingerprint: Mapping[str, str]
    fresh: Record
    folder: Path

    def copied(self, folder: Path, checkpoint: Path | None = None) -> Path:
        folder.mkdir()
        return shutil.copy(checkpoint or self.checkpoint, folder / CHECKPOINT)


def run(spec: RunSpec, folder: Path, stop_after: float | None = None, **context: Any) -> tuple[Record, list[str]]:
    """Trains a run; its record, and what the user was told."""
    notes: list[str] = []

    def stop(epochs: int, share: float = 0.0) -> None:
        if epochs + share == stop_after:
            raise Stop

    where = RunContext(folder, folder, CPU, **{"threads": 1, **context})
    return train(spec, where, stop, notes.append, on_checkpoint=stop), notes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    splits, root = random_splits(DATASETS["digits"]), tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "digits", replace(DATASETS["digits"], read=lambda *_: splits))  # type: ignore[arg-type]
        settings = {"train.epochs": 2, "train.batch_size": 12, "train.cosines_every": 1}
        spec = resolve("digits", architecture="normal", weighting="gradnorm", assignments=settings)
        fresh, _ = run(spec, root / "fresh")
        with pytest.raises(Stop):
            run(spec, root / "stopped", stop_after=1)
        with pytest.raises(Stop):
            run(spec, root / "partial", stop_after=1.5, checkpoint_every=0)
        yield Trained(
            spec, root / "stopped" / CHECKPOINT, root / "partial" / CHECKPOINT, fresh.fingerprint, fresh, root / "fresh"
        )


def results(record: Record, folder: Path) -> object:
    """All numbers of a run but times."""
    timed = {"seconds", "step_seconds", "peak_memory_mib", "idle_memory_mib", "environment", "resumed", "lost"}
    curve = [line.split(",")[:2] + line.split(",")[3:] for line in (folder / CURVE).read_text().splitlines()]
    return record.model_dump(exclude=timed), curve, (folder / POSITIONS).read_bytes()


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def put(*place: object, value: object) -> Callable[[Path], None]:
    """Replaces a value of the content."""

    def change(content: dict[str, Any]) -> None:
        inner: Any = content
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value

    return lambda path: edit(path, change)


def drop(*place: object) -> Callable[[Path], None]:
    """Removes a key of the content."""

    def change(content: dict[str, Any]) -> None:
        inner: Any = content
        for key in place[:-1]:
            inner = inner[key]
        del inner[place[-1]]

    return lambda path: edit(path, change)


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Puts something else in the place of the file."""

    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


def flip_a_bit(path: Path) -> None:
    """In the numbers of a tensor, where nothing but a checksum shows it."""
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=True)["network"]["encoder.0.0.weight"].numpy().tobytes()
    content[content.index(weight)] ^= 1
    path.write_bytes(content)


def compress(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def without_a_part(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            if not name.endswith("data.pkl"):
                archive.writestr(name, part)


class Code:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (f"touch {errno.__name__}.executed",)


def nested(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


def deep(*place: object) -> Callable[[Path], None]:
    """Puts a structure there that is too deep for recursive functions."""

    def change(path: Path) -> None:
        usual = sys.getrecursionlimit()
        sys.setrecursionlimit(20_000)
        try:
            put(*place, value=nested(3_000))(path)
        finally:
            sys.setrecursionlimit(usual)

    return change


def enormous(path: Path) -> None:
    """One number, read as a tensor of a million million ones."""
    edit(path, lambda content: content["network"].update({"encoder.0.0.weight": torch.zeros(1).expand(10**12)}))


NETWORK = ("network", "encoder.0.0.weight")
ADAM = ("optimizers", "network")
DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "the last byte is missing": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "noise": lambda path: path.write_bytes(os.urandom(10_000)),
    "text": lambda path: path.write_text("network: none"),
    "a flipped bit": flip_a_bit,
    "compressed": compress,
    "an archive of something else": without_a_part,
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"network": 1})),
    "a pickle with code": lambda path: path.write_bytes(pickle.dumps(Code())),
    "code in a checkpoint": put("settings", value=Code()),
    "a folder": instead(lambda path: (path / "inner").mkdir(parents=True)),
    "a pipe": instead(os.mkfifo),
    "a link to nothing": instead(lambda path: path.symlink_to("nowhere")),
    "a disk that can't read it": instead(lambda path: path.symlink_to("/proc/self/mem")),
    "a list": lambda path: torch.save([1, 2], path),
    "a tensor": lambda path: torch.save(torch.ones(3), path),
    "a format in words": put("format", value="one"),
    "a tensor as format": put("format", value=torch.ones(2)),
    "an unknown field": put("more", value=1),
    "a key that is no text": put(3, value=1),
    "no network": drop("network"),
    "no optimizers": drop("optimizers"),
    "no history": drop("history"),
    "history is a list": put("history", value=[1]),
    "an unknown field of the history": put("history", "more", value=1),
    "a field less in the history": drop("history", "curve"),
    "an unknown field of the best epoch": put("history", "best", "more", value=1),
    "epochs in words": put("history", "epochs", value="1"),
    "no epochs": put("history", "epochs", value=0),
    "more epochs than there are": put("history", "epochs", value=10**400),
    "words in the curve": put("history", "curve", value=[["1"]]),
    "a short curve": put("history", "curve", value=[[1.0, 2.0]]),
    "more rows than epochs": put("history", "curve", value=[[1.0]] * 10_000),
    "deep rows": deep("history", "positions"),
    "no positions": put("history", "positions", value=[]),
    "a best epoch to come": put("history", "best", "epoch", value=2),
    "scores of other tasks": put("history", "best", "validation", value={"art": {"accuracy": 1.0}}),
    "a best network without names": put("history", "best", "network", value={}),
    "a list of best epochs": put("history", "best_by_task", value=[1]),
    "numbers for best epochs": put("history", "best_by_task", value={"plain": 1}),
    "a best epoch of one task": put(
        "history",
        "best_by_task",
        value={"plain": {"epoch": 1, "score": 0.5, "validation": {"plain": {"accuracy": 0.5}}, "network": {}}},
    ),
    "more epochs without a score than epochs": put("history", "unscored", value=2),
    "deep settings": deep("settings", "train"),
    "a deep format": deep("format"),
    "settings in words": put("settings", value="all"),
    "an unknown parameter": put("network", "more", value=torch.ones(1)),
    "a parameter less": drop(*NETWORK),
    "numbers for a parameter": put(*NETWORK, value=1.0),
    "a parameter of another shape": put(*NETWORK, value=torch.ones(1, 2)),
    "a parameter of another type": lambda path: edit(
        path, lambda content: content["network"].update({NETWORK[1]: content["network"][NETWORK[1]].double()})
    ),
    "an enormous parameter": enormous,
    "no optimizer of the positions": drop("optimizers", "positions"),
    "another optimizer": put("optimizers", "positions", value={0: {"momentum_buffer": torch.ones(4)}}),
    "no moments": drop(*ADAM, 0, "exp_avg"),
    "moments of another shape": put(*ADAM, 0, "exp_avg", value=torch.ones(1)),
    "moments of a parameter too many": put(*ADAM, 1000, value={}),
    "a step of another shape": put(*ADAM, 0, "step", value=torch.ones(3)),
    "a weighting that learned nothing": put("memory", value={}),
    "a weighting of more tasks": put("memory", "logits", value=torch.zeros(9, dtype=torch.float64)),
    "weights of more tasks": put("kept", value={"weights": torch.ones(9)}),
    "a random stream of another size": put("generator", value=torch.zeros(3, dtype=torch.uint8)),
    "a random stream of numbers": put("generator", value=torch.zeros(5056)),
    "fallbacks in words": put("solver_fallbacks", value="none"),
}


def put_all(**values: object) -> Callable[[Path], None]:
    """Replaces values of the epoch that has not ended."""
    return lambda path: edit(path, lambda content: content["history"]["partial"].update(values))


def with_steps(steps: int) -> Callable[[Path], None]:
    """Another number of steps of this epoch, with as many losses and weights."""
    rows = torch.ones(steps, 4, dtype=torch.float64)

    def change(path: Path) -> None:
        put_all(steps=steps, losses=rows, weights=rows)(path)
        put("history", "steps", value=2 + steps)(path)

    return change


PARTIAL = ("history", "partial")
STREAM = torch.get_rng_state()
PARTIAL_DAMAGES: dict[str, Callable[[Path], object]] = {
    "a list": put(*PARTIAL, value=[1]),
    "an unknown field": put(*PARTIAL, "more", value=1),
    "a field less": drop(*PARTIAL, "losses"),
    "no epoch that has not ended": put(*PARTIAL, value=None),
    "the last epoch has ended": put("history", "epochs", value=2),
    "epochs below none": put("history", "epochs", value=-1),
    "steps in words": put(*PARTIAL, "steps", value="1"),
    "no step": with_steps(0),
    "more steps than an epoch has": with_steps(3),
    "more steps in all": put("history", "steps", value=99),
    "seconds in words": put(*PARTIAL, "seconds", value="1"),
    "losses of more steps": put(*PARTIAL, "losses", value=torch.ones(2, 4, dtype=torch.float64)),
    "losses of more tasks": put(*PARTIAL, "losses", value=torch.ones(1, 5, dtype=torch.float64)),
    "losses of another type": put(*PARTIAL, "losses", value=torch.ones(1, 4)),
    "losses that are not finite": put(*PARTIAL, "losses", value=torch.full((1, 4), torch.nan, dtype=torch.float64)),
    "weights in a list": put(*PARTIAL, "weights", value=[1.0] * 4),
    "an enormous number of weights": put_all(
        steps=10**12, weights=torch.ones(1, 4, dtype=torch.float64).expand(10**12, 4)
    ),
    "further weights of another run": put(*PARTIAL, "further", value={"head_weight": torch.ones(1, 4)}),
    "no random stream": put(*PARTIAL, "streams", value=[]),
    "streams of two processes": put(*PARTIAL, "streams", value=[{"cpu": STREAM}] * 2),
    "streams of another device": put(*PARTIAL, "streams", value=[{"cpu": STREAM, "cuda": STREAM}]),
    "streams of no device": put(*PARTIAL, "streams", value=[{}]),
    "a stream of another size": put(*PARTIAL, "streams", value=[{"cpu": STREAM[:9]}]),
    "a stream that is none": put(*PARTIAL, "streams", value=[{"cpu": torch.zeros_like(STREAM)}]),
    "a stream in words": put(*PARTIAL, "streams", value=[{"cpu": "random"}]),
    "code": put(*PARTIAL, "streams", value=Code()),
    "deep streams": deep(*PARTIAL, "streams"),
}


@pytest.mark.parametrize("damage", PARTIAL_DAMAGES)
def test_a_damaged_checkpoint_of_a_partial_epoch_is_set_aside_and_nothing_of_it_is_used(
    damage: str, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, stream = trained.copied(tmp_path / "run", trained.partial), torch.get_rng_state()
    PARTIAL_DAMAGES[damage](path)
    start = begin(trained, path)
    assert_new(start, trained.spec)
    assert "its checkpoint can't be resumed: the file is damaged: " in start.notes[0]
    assert len(start.notes[0]) < 500 and path.with_name(BAD).is_file() and not path.exists()
    assert not list(tmp_path.glob("*.executed")) and torch.equal(torch.get_rng_state(), stream)


def test_a_whole_checkpoint_of_a_partial_epoch_is_resumed(trained: Trained, tmp_path: Path) -> None:
    path = trained.copied(tmp_path / "run", trained.partial)
    found = look_at(path.parent)
    assert reached(path) == Reached(epochs=1, planned=2, steps=1)
    assert found and (found.state, found.note) == ("interrupted", "after step 1 of epoch 2 of 2")
    start = begin(trained, path)
    assert (start.history.epochs, start.history.steps, start.notes) == (1, 3, ())
    record, notes = run(trained.spec, path.parent)
    assert not notes and results(record, path.parent) == results(trained.fresh, trained.folder)


def begin(trained: Trained, path: Path) -> Start:
    """What `train` does before it trains."""
    spec, origin = trained.spec, Origin(trained.spec, trained.fingerprint, CPU, threads=1, epoch_steps=2)
    return start_or_resume(path, origin, lambda: make_train_state(spec, build_network(spec, CPU)))


def assert_new(start: Start, spec: RunSpec) -> None:
    """The state and the history are those of a new run."""
    new = make_train_state(spec, build_network(spec, CPU))
    found, expected = start.state.network.state_dict(), new.network.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for name, optimizer in new.optimizers.items():
        assert start.state.optimizers[name].state_dict() == optimizer.state_dict()
    memory = new.weighting_state.memory
    assert all(torch.equal(start.state.weighting_state.memory[name], memory[name]) for name in memory)
    assert torch.equal(start.state.generator.get_state(), new.generator.get_state())
    assert (start.state.cached_weights, start.state.solver_fallbacks, start.history) == ({}, 0, History())


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_nothing_of_it_is_used(
    damage: str, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = trained.copied(tmp_path / "run")
    DAMAGES[damage](path)
    start = begin(trained, path)
    assert_new(start, trained.spec)
    (note,) = start.notes
    assert note.startswith(
        "starts again from the first epoch, since its checkpoint can't be resumed: the file is damaged: "
    )
    assert note.endswith(f"; it is kept as {BAD}") and len(note) < 500 and "\n" not in note
    assert os.path.lexists(path.with_name(BAD)) and not os.path.lexists(path)
    assert not list(tmp_path.glob("*.executed"))


@pytest.mark.parametrize("damage", ["truncated", "a pipe", "an unknown field of the history", "a short curve"])
def test_a_run_with_a_damaged_checkpoint_is_that_of_a_new_one(damage: str, trained: Trained, tmp_path: Path) -> None:
    path = trained.copied(tmp_path / "run")
    DAMAGES[damage](path)
    record, _ = run(trained.spec, path.parent)
    assert results(record, path.parent) == results(trained.fresh, trained.folder)


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a newer format": (put("format", value=1000), "its format is that of another version of the code"),
    "learned weights with an optimizer": (
        lambda path: edit(path, lambda content: [content.pop("format"), content.update(learned={"logits": 1})]),
        "its format is that of another version of the code",
    ),
    "another seed": (put("run", value="digits/normal/seed-1"), "it was made by the run digits/normal/seed-1"),
    "other settings": (put("settings", "train", "lr", value=0.5), "it was made with other settings"),
    "other versions": (put("versions", "engine", value=1000), "it was made by another version of the code"),
    "other data": (put("fingerprint", "train", value="0"), "it was made from other data (train changed)"),
    "unknown data": (put("fingerprint", value={}), "it doesn't say what data it was made from"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_something_else_is_set_aside_too(other: str, trained: Trained, tmp_path: Path) -> None:
    change, reason = OTHERS[other]
    path = trained.copied(tmp_path / "run")
    change(path)
    start = begin(trained, path)
    assert_new(start, trained.spec)
    assert start.notes[0].endswith(f"resumed: {reason}; it is kept as {OTHER}")
    assert path.with_name(OTHER).is_file() and not path.exists()


@pytest.mark.parametrize(
    "form",
    ["today's", "of format 3", "of format 2", "of format 1", "before formats had numbers", "before fields were added"],
)
def test_a_checkpoint_of_any_known_format_is_resumed(form: str, trained: Trained, tmp_path: Path) -> None:
    path = trained.copied(tmp_path / "run")

    def age(content: dict[str, Any]) -> None:
        del content["run"]
        if form == "of format 3":
            content["format"] = 3
            return
        del content["history"]["partial"]
        if form == "of format 2":
            content["format"] = 2
            return
        del content["history"]["best_by_task"], content["history"]["unscored"]
        if form == "of format 1":
            content["format"] = 1
            return
        del content["format"], content["platform"], content["history"]["resumed"]
        content["optimizers"] = {
            name: {"state": state, "param_groups": []} for name, state in content["optimizers"].items()
        }
        if form == "before fields were added":
            # Not its versions: without them it would be of version 1 of every part, which it isn't.
            del content["kept"], content["device"], content["history"]["last_tests"]

    if form != "today's":
        edit(path, age)
    record, notes = run(trained.spec, path.parent)
    assert not notes and results(record, path.parent) == results(trained.fresh, trained.folder)


def test_a_run_that_had_diverged_at_its_checkpoint_diverges(trained: Trained, tmp_path: Path) -> None:
    """Its last step may have made the network NaN: nothing is wrong with such a checkpoint."""
    path = trained.copied(tmp_path / "run")
    edit(path, lambda content: content["network"][NETWORK[1]].fill_(torch.nan))
    record, notes = run(trained.spec, path.parent)
    assert (record.status, record.epochs, notes) == ("diverged", 1, [])


def test_one_checkpoint_of_each_kind_is_kept(trained: Trained, tmp_path: Path) -> None:
    path = trained.copied(tmp_path / "run")
    path.with_name(BAD).mkdir()
    (path.with_name(BAD) / "file").touch()
    os.truncate(path, 100)
    begin(trained, path)
    assert path.with_name(BAD).stat().st_size == 100
    shutil.copy(trained.checkpoint, path)
    os.truncate(path, 200)
    begin(trained, path)
    assert path.with_name(BAD).stat().st_size == 200
    assert len(list(path.parent.glob(f"{CHECKPOINT}*"))) == 1


def test_a_checkpoint_is_set_aside_by_its_owner_only(trained: Trained, tmp_path: Path) -> None:
    class Lost(Exception):
        """Another process owns the run now."""

    @contextmanager
    def guard() -> Iterator[None]:
        raise Lost
        yield

    path = trained.copied(tmp_path / "run")
    os.truncate(path, 100)
    with pytest.raises(Lost):
        run(trained.spec, path.parent, guard=guard)
    assert [file.name for file in path.parent.iterdir()] == [CHECKPOINT]


def test_a_restoration_that_fails_half_way_leaves_nothing(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of shapes and types is left out, so that the optimizer refuses after the network is restored."""
    path = trained.copied(tmp_path / "run")
    put(*ADAM, value={0: {"exp_avg": torch.ones(1)}})(path)
    monkeypatch.setattr(checkpoint, "_check_state", lambda *_: None)
    record, (note,) = run(trained.spec, path.parent)
    assert "the file is damaged: KeyError" in note
    assert results(record, path.parent) == results(trained.fresh, trained.folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_checkpoint_that_may_not_be_opened_is_left_where_it_is(trained: Trained, tmp_path: Path) -> None:
    path = trained.copied(tmp_path / "run")
    path.chmod(0)
    parents = [folder for folder in path.parents if folder.stat().st_mode & 0o5 != 0o5]
    modes = {folder: folder.stat().st_mode for folder in parents}
    for folder in parents:
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(StorageError, match="expected permission for user"):
            begin(trained, path)
    finally:
        os.seteuid(0)
        for folder, mode in modes.items():
            folder.chmod(mode)
    path.chmod(0o600)
    assert path.read_bytes() == trained.checkpoint.read_bytes()


@pytest.fixture(params=["64k", "1m"])
def full_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk that is too small for a checkpoint."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("only root can make a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_named(trained: Trained, full_disk: Path) -> None:
    filling = full_disk / "filling"
    with pytest.raises(OSError), filling.open("wb") as file:  # leaves less than a checkpoint needs
        while True:
            file.write(bytes(4096))
    os.truncate(filling, filling.stat().st_size - 16384)
    folder = full_disk / "run"
    with pytest.raises(StorageError, match=f"{CHECKPOINT}: expected free space, found 0 KiB on"):
        run(trained.spec, folder)
    assert list(folder.iterdir()) == []


def test_a_run_resumed_on_another_platform_says_so(trained: Trained, tmp_path: Path) -> None:
    path = trained.copied(tmp_path / "run")
    put("platform", "device", value="cuda: Some GPU")(path)
    put("platform", "threads", value="8")(path)
    put("history", "resumed", value=["from epoch 1 on: torch 2.1 instead of 2.0"])(path)
    record, (note,) = run(trained.spec, path.parent)
    changes = "threads 1 instead of 8, device cpu instead of cuda: Some GPU"
    assert note == f"is resumed on another platform, from epoch 2 on: {changes}"
    assert record.resumed == ["from epoch 1 on: torch 2.1 instead of 2.0", f"from epoch 2 on: {changes}"]


def test_changes_of_the_platform_are_kept_across_resumptions(trained: Trained, tmp_path: Path) -> None:
    path, spec = tmp_path / CHECKPOINT, resolve("digits", "ew", assignments={"train.epochs": 3, "train.batch_size": 12})
    for stop_after, threads in ((1, "8"), (2, "4")):
        with pytest.raises(Stop):
            run(spec, tmp_path, stop_after)
        put("platform", "threads", value=threads)(path)
    record, _ = run(spec, tmp_path)
    assert record.resumed == ["from epoch 2 on: threads 1 instead of 8", "from epoch 3 on: threads 1 instead of 4"]


@pytest.mark.parametrize("at", range(1, 8))
def test_a_signal_while_a_checkpoint_is_written_waits_until_it_is(at: int, tmp_path: Path) -> None:
    """torch would make an error of the run out of it, or end the process."""

    class Interrupted(io.FileIO):
        writes = 0

        def write(self, content: Any) -> int:
            self.writes += 1
            if self.writes == at:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().write(content)

    class Place:
        def open(self, mode: str) -> io.FileIO:
            return Interrupted(tmp_path / "file", mode)

    with pytest.raises(Stopped), stopped_by(signal.SIGTERM):
        checkpoint_file._save({"tensor": torch.ones(3)}, Place())  # type: ignore[arg-type]
    assert torch.load(tmp_path / "file")["tensor"].tolist() == [1, 1, 1]

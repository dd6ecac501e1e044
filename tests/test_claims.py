"""Claims: one process has a run, and loses it only when it is dead or has been silent for too long."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from record_factory import make_record

from bench.records.claim import CLAIM, Claim, ClaimLost, Holder, beat, holder_of, release, take
from bench.records.files import StorageError
from bench.records.store import RECORD, read_record, write_record

HERE = os.getpid()


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def taken(folder: Path, process: int = HERE, expired: Holder | None = None) -> Claim:
    claim = take(folder, process, 60, expired)
    assert isinstance(claim, Claim)
    return claim


def test_a_run_has_one_owner(tmp_path: Path) -> None:
    claim = taken(tmp_path / "run")
    holder = take(tmp_path / "run", HERE, 60)
    assert isinstance(holder, Holder)
    assert (holder.owner, holder.process, holder.generation) == (claim.owner, HERE, 1)
    release(claim)
    assert not list((tmp_path / "run").iterdir())
    assert taken(tmp_path / "run").owner != claim.owner


def test_of_many_that_want_a_run_at_once_one_gets_it(tmp_path: Path) -> None:
    for attempt in range(50):
        folder, found = tmp_path / str(attempt), list[Claim | Holder]()
        threads = [threading.Thread(target=lambda: found.append(take(folder, HERE, 60))) for _ in range(4)]  # noqa: B023
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (claim,) = [one for one in found if isinstance(one, Claim)]
        assert {one.owner for one in found} == {claim.owner}


def test_the_claim_of_a_dead_process_is_taken_over_at_once(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    claim = taken(tmp_path, other.pid)
    assert isinstance(take(tmp_path, HERE, 60), Holder)
    other.kill()
    time.sleep(0.2)  # dead, but its exit code has not been asked for
    ours = taken(tmp_path)
    assert ours.generation == claim.generation + 1
    with pytest.raises(ClaimLost, match=f"process {HERE} on .* has taken over this run"), claim.guard():
        pass


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    taken(tmp_path, other.pid)
    path = tmp_path / CLAIM
    holder = Holder.model_validate_json(path.read_bytes())
    path.write_text(holder.model_copy(update={"started": "1"}).model_dump_json())
    assert taken(tmp_path).generation == 2


def test_the_processes_of_another_machine_are_not_looked_for(tmp_path: Path) -> None:
    taken(tmp_path)
    path = tmp_path / CLAIM
    holder = Holder.model_validate_json(path.read_bytes())
    path.write_text(holder.model_copy(update={"host": "elsewhere", "process": 2**22 + 1}).model_dump_json())
    found = take(tmp_path, HERE, 60)
    assert isinstance(found, Holder) and found.name == f"process {2**22 + 1} on elsewhere"


def test_a_silent_owner_loses_the_claim_and_a_living_one_keeps_it(tmp_path: Path) -> None:
    former = taken(tmp_path)
    seen = holder_of(tmp_path)
    beat(former)
    assert isinstance(take(tmp_path, HERE, 60, seen), Holder)  # it has given a sign of life since
    ours = taken(tmp_path, expired=holder_of(tmp_path))
    for use in (lambda: beat(former), lambda: former.guard().__enter__()):
        with pytest.raises(ClaimLost):
            use()
    release(former)  # has no effect
    beat(ours)


def test_an_old_generation_can_not_write(tmp_path: Path) -> None:
    """Neither while another process trains the run, nor after it."""
    former = taken(tmp_path)
    ours = taken(tmp_path, expired=holder_of(tmp_path))
    write_record(tmp_path, make_record(), ours.guard)
    for _ in range(2):
        with pytest.raises(ClaimLost):
            write_record(tmp_path, make_record(status="failed", reason="late"), former.guard)
        assert read_record(tmp_path / RECORD) == make_record()
        assert not list(tmp_path.glob(".*"))
        release(ours)


@pytest.mark.parametrize("content", [b"", b"{", b'{"generation": 1}', b"\xff" * 9000])
def test_a_damaged_claim_is_nobodys(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CLAIM).write_bytes(content)
    claim = taken(tmp_path)
    beat(claim)
    assert claim.generation == 1 and holder_of(tmp_path) is not None


def test_a_process_that_is_stopped_while_it_holds_the_lock_stops_nobody_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.records.claim._LONGEST_LOCK", 0.2)
    program = (
        "import os, pathlib, signal, sys; from bench.records.claim import take\n"
        f"with take(pathlib.Path({str(tmp_path)!r}), os.getpid(), 60).guard():\n"
        "    print('in', flush=True); os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"in\n"
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)
        found = take(tmp_path, HERE, 60, holder_of(tmp_path))
        assert isinstance(found, Holder) and found.process == process.pid
        process.send_signal(signal.SIGCONT)
    assert taken(tmp_path).generation == 2


def test_who_waits_for_a_run_is_never_in_the_way_of_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting process that is stopped in the moment in which it looks at a claim would lock out the owner."""
    taken(tmp_path)
    monkeypatch.setattr("bench.records.claim._locked", None)
    assert isinstance(take(tmp_path, HERE, 60), Holder)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Results may come from elsewhere; a claim would overwrite the file that the link names."""
    (tmp_path / "precious").write_text("precious")
    for target in ("precious", "absent"):
        folder = tmp_path / f"run-{target}"
        folder.mkdir()
        (folder / CLAIM).symlink_to(tmp_path / target)
        with pytest.raises(StorageError, match=r"claim\.json: expected a file, found a link; remove it"):
            take(folder, HERE, 60)
        assert holder_of(folder) is None
    assert (tmp_path / "precious").read_text() == "precious" and not (tmp_path / "absent").exists()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / CLAIM)
    assert holder_of(tmp_path) is None
    with pytest.raises(StorageError, match=r"claim\.json: "):
        take(tmp_path, HERE, 60)


def test_a_claim_of_a_newer_version_counts(tmp_path: Path) -> None:
    taken(tmp_path)
    path = tmp_path / CLAIM
    path.write_text(path.read_text()[:-1] + ', "added": 1}')
    assert isinstance(take(tmp_path, HERE, 60), Holder)


def test_a_file_system_that_fails_for_a_while_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = taken(tmp_path)

    def fail(*arguments: object) -> bytes:
        raise OSError(errno.ESTALE, "")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match=r"claim\.json: expected a network drive"):
        patch.setattr(os, "pread", fail)
        beat(claim)
    beat(claim)


def test_hidden_processes_of_other_users_count_as_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: subprocess.Popen[bytes]
) -> None:
    """With /proc mounted so (hidepid), only their numbers can be asked for."""
    taken(tmp_path, other.pid)
    hidden, read = f"/proc/{other.pid}/stat", Path.read_text

    def read_text(path: Path, *arguments: Any, **options: Any) -> str:
        if str(path) == hidden:
            raise FileNotFoundError(hidden)
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert isinstance(take(tmp_path, HERE, 60), Holder)
    other.kill()
    other.wait()
    assert isinstance(take(tmp_path, HERE, 60), Claim)

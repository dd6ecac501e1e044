"""One process for each run: a claim in the run's folder says which process trains it, and that it still lives.

The process that trains counts up in the claim every few seconds. Another one may take the claim over when that process
has died, or when the count has stood still for longer than the claim allows. It then gets a higher generation. From
then on the former owner can't move a file to its place any more, whatever it was doing.

Every look at a claim that leads to a write happens under a lock of the file (flock), which the system releases when a
process dies. Clocks of different machines are never compared. On a file system without such locks, two processes that
take over the same claim within milliseconds could both train; each still checks its claim before it writes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.records.files import StorageError, storage_error

CLAIM = "claim.json"

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = "/proc/self/ns/pid"
_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)
# A lock is held for as long as it takes to read or rename a file, unless its process is stopped in that very moment.
_LONGEST_LOCK = 10.0
_LONGEST_CONTENT = 4096


class ClaimLost(Exception):
    """Another process has taken over the run."""


class Progress(BaseModel):
    """How far a run is, for people.

    epochs, share: finished epochs, and the share of the next one that is done.
    planned: epochs of the whole run.
    epoch_seconds: mean of an epoch in this process; None if it is not known yet.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    epochs: int
    planned: int
    epoch_seconds: float | None = None
    share: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until the last epoch has ended, as far as that is known."""
        left = max(0.0, self.planned - self.epochs - self.share)
        return None if self.epoch_seconds is None else self.epoch_seconds * left


class Holder(BaseModel):
    """The content of a claim.

    generation: how often the run was claimed, without a break.
    owner: a random name.
    host: the machine, and on Linux its boot and the namespace of its process numbers.
    process: its number.
    started: when the process started, in ticks since the boot; so that a number that is used again is another process.
    expiry: seconds without a beat after which others may take over.
    beats: counted up while the owner lives.
    progress: of the run, for people; None before training.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)  # a newer version may add fields

    generation: int
    owner: str
    host: str
    process: int
    started: str
    expiry: float
    beats: int = 0
    progress: Progress | None = None

    @property
    def name(self) -> str:
        """For messages: the process and its machine."""
        return f"process {self.process} on {self.host.split(' ')[0]}"


# For a claim that another process keeps locked before it has written its name.
_UNKNOWN = Holder(generation=0, owner="", host="this machine", process=0, started="", expiry=_LONGEST_LOCK)


@dataclass(frozen=True)
class Claim:
    """A claim of ours. folder: of the run."""

    folder: Path
    generation: int
    owner: str

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Within, nobody can take the claim over.

        Raises:
            ClaimLost: somebody has. StorageError: the claim can't be read.
        """
        with _locked(self.folder / CLAIM, create=False) as file:
            _own(self, file)
            yield


def take(folder: Path, process: int, expiry: float, expired: Holder | None = None) -> Claim | Holder:
    """Claims a run for a process of this machine; returns who holds the claim if it can't be had.

    expiry: as in `Holder`.
    expired: the holder as it was when it expired; it loses the claim unless it has given a sign of life since.

    Raises:
        StorageError: the claim can't be written.
    """
    path = folder / CLAIM
    # Without a lock: who only waits is never in the way of the owner, not even if it is stopped in this moment.
    holder = holder_of(folder)
    if holder is not None and not _is_free(holder, expired):
        return holder
    try:
        with _locked(path, create=True) as file:
            holder = _read(file, path)
            if holder is not None and not _is_free(holder, expired):
                return holder
            ours = _holder(process, expiry, holder.generation + 1 if holder else 1)
            _write(file, path, ours)
    except _Busy:
        return holder_of(folder) or _UNKNOWN
    return Claim(folder, ours.generation, ours.owner)


def beat(claim: Claim, progress: Progress | None = None) -> None:
    """Gives a sign of life, and says how far the run is if that is given.

    Raises:
        ClaimLost: another process has taken over. StorageError: the claim can't be written.
    """
    path = claim.folder / CLAIM
    with _locked(path, create=False) as file:
        holder = _own(claim, file)
        update = {"beats": holder.beats + 1, "progress": progress or holder.progress}
        _write(file, path, holder.model_copy(update=update))


def release(claim: Claim) -> None:
    """Ends a claim, unless another process has taken it over."""
    with suppress(ClaimLost, StorageError), claim.guard():
        (claim.folder / CLAIM).unlink(missing_ok=True)


def holder_of(folder: Path) -> Holder | None:
    """Who holds the claim of a run, dead or alive; None if nobody does, or if the claim can't be read."""
    try:
        file = os.open(folder / CLAIM, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return _read(file, folder / CLAIM)
    except StorageError:
        return None
    finally:
        os.close(file)


class _Busy(StorageError):
    """A claim stays locked: its process was stopped in that very moment."""


@contextmanager
def _locked(path: Path, create: bool) -> Iterator[int]:
    """The open file, locked.

    Raises:
        ClaimLost: there is none, and it may not be created. StorageError: it can't be opened, or stays locked.
    """
    until = time.monotonic() + _LONGEST_LOCK
    while (file := _lock_once(path, create)) is None:
        if time.monotonic() > until:
            raise _Busy(f"{path}: another process keeps it locked; continue that process, or end it.")
        time.sleep(0.01)
    try:
        yield file
    finally:
        os.close(file)  # unlocks it


def _lock_once(path: Path, create: bool) -> int | None:
    """The open file, locked; None if another process has locked it, or deleted it before it could be locked."""
    file = _open(path, create)
    try:
        if _lock(file) and os.path.samestat(os.fstat(file), path.stat()):
            return file
    except FileNotFoundError:
        pass
    except OSError as error:
        os.close(file)
        raise storage_error(path, error) from error
    os.close(file)
    return None


def _open(path: Path, create: bool) -> int:
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        # A link is not followed: it would have a file elsewhere overwritten.
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0), 0o666)
    except FileNotFoundError as error:
        if create:
            raise storage_error(path, error) from error
        raise ClaimLost(f"{path} is gone: another process has taken over this run, or it was deleted") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StorageError(f"{path}: expected a file, found a link; remove it.") from error
        raise storage_error(path, error) from error


def _lock(file: int) -> bool:
    """Locks a file; False if another process has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
    return True


def _own(claim: Claim, file: int) -> Holder:
    """The content of a claim that is still ours."""
    holder = _read(file, claim.folder / CLAIM)
    if holder is None or (holder.owner, holder.generation) != (claim.owner, claim.generation):
        raise ClaimLost(f"{claim.folder}: {holder.name if holder else 'another process'} has taken over this run")
    return holder


def _read(file: int, path: Path) -> Holder | None:
    """The content of a claim; None if its process died before it was written."""
    try:
        return Holder.model_validate_json(os.pread(file, _LONGEST_CONTENT, 0))
    except ValidationError:
        return None
    except OSError as error:
        raise storage_error(path, error) from error


def _write(file: int, path: Path, holder: Holder) -> None:
    content = holder.model_dump_json().encode()
    try:
        os.pwrite(file, content, 0)
        os.ftruncate(file, len(content))
    except OSError as error:
        raise storage_error(path, error) from error


def _holder(process: int, expiry: float, generation: int) -> Holder:
    return Holder(
        generation=generation,
        owner=uuid.uuid4().hex,
        host=_host(),
        process=process,
        started=_started(process) or "",
        expiry=expiry,
    )


@cache
def _host() -> str:
    names = [platform.node() or "unknown"]
    with suppress(OSError):
        names += [_BOOT.read_text(encoding="ascii").strip(), os.readlink(_PROCESSES)]
    return " ".join(names)


def _is_free(holder: Holder, expired: Holder | None) -> bool:
    return holder == expired or has_died(holder)


def has_died(holder: Holder) -> bool:
    """Whether the owner is known to be dead; processes of other machines and containers can't be seen."""
    return holder.host == _host() and _started(holder.process) not in (holder.started, "")


def _started(process: int) -> str | None:
    """When a process started; None if there is none, or if it is dead and only its exit code is left.

    "" if the system doesn't say: then only the number is known.
    """
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # there is no /proc, or it doesn't show the processes of other users
        return "" if _exists(process) else None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

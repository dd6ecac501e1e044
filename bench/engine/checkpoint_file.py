"""The file of a checkpoint: its format, how it is written, and what is checked before anything of it is used."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from bench.engine.history import Best, History, PartialEpoch
from bench.engine.signals import uninterrupted
from bench.records.files import Guard, atomic_write, storage_error

FORMAT = 4  # raise it with every change of `Content`, and extend `_upgraded`
T = TypeVar("T")


class UnusableCheckpoint(Exception):
    """A checkpoint that can't be resumed; the message says why. It is kept under its name with `ending`."""

    ending = ".other"


class DamagedCheckpoint(UnusableCheckpoint):
    """The file doesn't hold a checkpoint, or not a whole one."""

    ending = ".bad"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the file is damaged: {reason}")


@dataclass(frozen=True)
class Content:
    """What a checkpoint holds.

    run: its name, as of `run_name`; "" if the code that wrote it left that out. Runs of other seeds or methods may have
        the same settings, and networks of the same shapes.
    settings, fingerprint, versions: as in `Record`; no versions if the code that wrote it had none.
    device: the kind of device that it was written on.
    platform: what the last bits of its numbers depend on; see `bench.engine.checkpoint.platform_of`.
    network, optimizers, memory, kept, generator, solver_fallbacks: of the state in training. Of optimizers, what they
        remember of each parameter; their settings follow from those of the run. memory: of the weighting. kept: cached
        weights. generator: the state of its random stream.
    history: progress.
    """

    run: str
    settings: dict[str, dict[str, Any]]
    fingerprint: dict[str, str]
    versions: dict[str, int]
    device: str
    platform: dict[str, str]
    network: dict[str, Tensor]
    optimizers: dict[str, dict[int, dict[str, Tensor]]]
    memory: dict[str, Tensor]
    kept: dict[str, Tensor]
    generator: Tensor
    solver_fallbacks: int
    history: History


class _Schema(BaseModel):
    """Checks the types in a content. Its own copy of the content, with whole numbers as floats, is not used."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True, revalidate_instances="always")

    content: Content


def write_content(path: Path, content: Content, guard: Guard) -> None:
    """Writes a checkpoint atomically. guard: as in `atomic_write`.

    Raises:
        StorageError: the file can't be written.
    """
    best, by_task, partial = content.history.best, content.history.best_by_task, content.history.partial
    history = {
        **vars(content.history),
        "best": vars(best) if best else None,
        "best_by_task": {task: vars(of_task) for task, of_task in by_task.items()},
        "partial": vars(partial) if partial else None,
    }
    raw = {"format": FORMAT, **vars(content), "history": history}
    atomic_write(path, lambda temporary: _save(raw, temporary), guard)


def _save(raw: Mapping[str, Any], path: Path) -> None:
    """torch.save into a file of Python: given a path, it hides the system's error if the disk is full.

    Signals wait: torch would make an error of the run out of their exception, or end the process, since it can't close
    a half-written archive.
    """
    with path.open("wb") as file, uninterrupted():
        torch.save(raw, file)


def read_content(path: Path) -> Content:
    """The content of a checkpoint, with valid types. No code in it is executed.

    Raises:
        UnusableCheckpoint: it is damaged, or of a format that this code doesn't know.
        StorageError: it may not be opened, so nobody knows whether it is good.
    """
    if not path.is_file():  # opening a pipe would wait for its other end
        raise DamagedCheckpoint("expected a file, found something else")
    try:
        file = path.open("rb")
    except OSError as error:
        raise storage_error(path, error) from error
    with file:
        raw = _load(file)
    return _content(_upgraded(raw))


@dataclass(frozen=True)
class Reached:
    """How far a checkpoint is: finished epochs, those of the whole run, and steps of the epoch that has not ended."""

    epochs: int
    planned: int
    steps: int = 0


def reached(path: Path) -> Reached | None:
    """How far the run of a checkpoint is, without reading its tensors; None if that can't be read.

    Nothing is checked, so it says nothing about whether the run can go on.
    """
    if not path.is_file():
        return None
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        partial = raw["history"].get("partial")
        far = raw["history"]["epochs"], raw["settings"]["train"]["epochs"], partial["steps"] if partial else 0
    except Exception:  # as in `_load`
        return None
    return Reached(*far) if all(isinstance(number, int) for number in far) else None


def _load(file: BinaryIO) -> Any:
    """The unpickled content of a file, whose checksums are compared first: torch.load doesn't look at them."""
    try:
        with zipfile.ZipFile(file) as archive:
            # torch compresses nothing, and what is compressed could be much larger than the file.
            compressed = any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist())
            if not compressed and archive.testzip() is None:
                file.seek(0)
                return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DamagedCheckpoint(f"reading it ends with: {error.strerror}") from error
    except Exception as error:  # both readers raise errors of many types on odd bytes
        raise DamagedCheckpoint("expected a checkpoint, found other content") from error
    raise DamagedCheckpoint("its checksums don't match its content")


def _upgraded(raw: Any) -> dict[str, Any]:
    """A content of any format in today's form."""
    if not isinstance(raw, dict) or not isinstance(raw.get("format", 0), int):
        raise DamagedCheckpoint("expected a mapping with the number of a format, found other content")
    raw = dict(raw)
    found = raw.pop("format", 0)
    if found == FORMAT:
        return raw
    # 1: before tasks had a best epoch of their own, and epochs without a score were counted. 2: before an epoch could
    # be saved in its middle. 3: before it named its run.
    if found in (1, 2, 3):
        return {"run": "", **raw, "history": _with_new_fields(raw.get("history"))}
    # Before formats had numbers. Learned weights once had an optimizer of their own.
    if found != 0 or raw.pop("learned", {}) != {}:
        raise UnusableCheckpoint("its format is that of another version of the code")
    optimizers = raw.get("optimizers")
    if isinstance(optimizers, dict) and all(isinstance(one, dict) for one in optimizers.values()):
        raw["optimizers"] = {name: one.get("state") for name, one in optimizers.items()}
    raw["history"] = _with_new_fields(raw.get("history"))
    return {"run": "", "fingerprint": {}, "versions": {}, "device": "", "platform": {}, "kept": {}, **raw}


def _with_new_fields(history: object) -> object:
    """A history with the fields that came later, as they are at its beginning."""
    return {**vars(History()), **history} if isinstance(history, dict) else history


def _content(raw: Mapping[str, Any]) -> Content:
    """The content, with valid types."""
    history = _made(History, raw.get("history"))
    if history.best is not None:
        history.best = _made(Best, history.best)
    if history.partial is not None:
        history.partial = _made(PartialEpoch, history.partial)
    by_task: object = history.best_by_task
    if not isinstance(by_task, dict):
        raise DamagedCheckpoint("expected a best epoch for each task, found another form")
    history.best_by_task = {task: _made(Best, best) for task, best in by_task.items()}
    content = _made(Content, {**raw, "history": history})
    try:
        _Schema(content=content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        raise DamagedCheckpoint(f"{place:.80}: {first['msg']:.80}") from error
    return content


def _made(kind: Callable[..., T], raw: object) -> T:
    """A dataclass of values of any type, whose names are those of its fields."""
    names = set(signature(kind).parameters)
    odd = names ^ raw.keys() if isinstance(raw, dict) else names
    if odd or not isinstance(raw, dict):
        some = ", ".join(sorted(f"{name!a:.40}" for name in odd if isinstance(name, str)))
        raise DamagedCheckpoint(f"it has unknown fields or lacks some: {some:.200}")
    return kind(**raw)


def set_aside(path: Path, ending: str, guard: Guard) -> Path:
    """Renames a checkpoint that can't be resumed; returns its new path. One kept there before is removed.

    Raises:
        StorageError: that is not possible.
    """
    aside = path.with_name(path.name + ending)
    try:
        with guard():
            if aside.is_dir() and not aside.is_symlink():
                shutil.rmtree(aside)
            else:
                aside.unlink(missing_ok=True)
            os.rename(path, aside)
    except OSError as error:
        raise storage_error(path, error) from error
    return aside

"""Folders are written completely or not at all, also by the makers of embedded data."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bench import ROOT
from datasets import DATASETS, obtain
from datasets.contract import DataError
from datasets.embedded import digits, faces, flowtimes, rooms
from datasets.embedded.atomic_folder import atomic_folder, noted_version

MAKERS = {"digits": digits.make, "rooms": rooms.make, "faces": faces.make, "flowtimes": flowtimes.make}


def names(folder: Path) -> list[str]:
    """What stands in a folder, except the note of the maker's version."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".made_by")


def test_appears_when_it_is_finished_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    with atomic_folder(folder, 1) as unfinished:
        (unfinished / "file").write_text("whole")
        assert not folder.exists()
        assert unfinished.stat().st_dev == folder.parent.stat().st_dev
    assert (folder / "file").read_text() == "whole"
    assert names(folder.parent) == ["data"]


def test_has_the_permissions_of_other_folders(tmp_path: Path) -> None:
    (tmp_path / "ordinary").mkdir()
    with atomic_folder(tmp_path / "data", 1):
        pass
    assert (tmp_path / "data").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys; from datasets.embedded.atomic_folder import atomic_folder\n"
        f"with atomic_folder(pathlib.Path({str(tmp_path / 'data')!r}), 1) as unfinished:\n"
        "    (unfinished / 'file').touch(); print('in', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"in\n"
        (tmp_path / ".data.mine").mkdir()
        (left,) = tmp_path.glob(".data.unfinished.*")
        with pytest.raises(ValueError), atomic_folder(tmp_path / "data", 1):
            assert (left / "data" / "file").exists()
            raise ValueError
        process.kill()
    assert left.exists()
    with atomic_folder(tmp_path / "data", 1):
        assert not left.exists()
    assert names(tmp_path) == [".data.mine", "data"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_leaves_nothing_when_it_fails(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_folder(tmp_path / "data", 1) as unfinished:
        (unfinished / "file").touch()
        raise error
    assert names(tmp_path) == []


def test_a_faster_process_wins(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with atomic_folder(folder, 1) as slower:
        (slower / "slower").touch()
        with atomic_folder(folder, 1) as faster:
            (faster / "faster").touch()
    assert names(tmp_path) == ["data"]
    assert names(folder) == ["faster"]


def test_a_failed_rename_is_not_taken_for_a_lost_race(tmp_path: Path) -> None:
    with pytest.raises(OSError), atomic_folder(tmp_path / "data", 1) as unfinished:
        unfinished.rmdir()
    assert names(tmp_path) == []


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("elsewhere", "link"):
        with atomic_folder(tmp_path / name, 1) as unfinished:
            (unfinished / "file").touch()
        assert names(tmp_path / name) == ["file"]
        for child in (tmp_path / name).iterdir():
            child.unlink()
    assert names(tmp_path) == ["elsewhere", "link"]


def test_a_file_of_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(FileExistsError, match="move it away"), atomic_folder(tmp_path / "data", 1):
        pass
    assert (tmp_path / "data").read_text() == "mine"


def test_makers_do_not_touch_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").write_text("unchanged")
    for name, make in MAKERS.items():
        with pytest.raises(FileExistsError, match="move it away"):
            make(tmp_path / "data")
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "mine"], name


@pytest.mark.parametrize(
    ("make", "owner", "step"),
    [(digits.make, digits, "seen"), (rooms.make, rooms, "render"), (faces.make, faces, "draw")],
    ids=("digits", "rooms", "faces"),
)
def test_interrupted_makers_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], owner: ModuleType, step: str
) -> None:
    monkeypatch.setattr(rooms, "SPLITS", {"train": 3, "val": 3})
    monkeypatch.setattr(faces, "PART_SIZES", (3, 3, 3))
    original, calls = getattr(owner, step), []

    def interrupted(*args: Any, **options: Any) -> Any:
        assert not (tmp_path / "data").exists()
        calls.append(step)
        if len(calls) == 5:  # in the second part of rooms and faces
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(owner, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "data")
    assert len(calls) == 5
    assert names(tmp_path) == []


@pytest.fixture
def tiny_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """`digits` makes two pictures only."""
    made = [(f"{name}/images/0/0000.png", np.zeros((8, 8, 3), dtype=np.uint8)) for name in ("plain", "noisy")]
    monkeypatch.setattr(digits, "pictures", lambda: iter(made))


def test_data_of_another_version_is_refused_and_made_again_once_it_is_deleted(
    tmp_path: Path, tiny_digits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = obtain("digits", tmp_path)
    assert obtain("digits", tmp_path) == folder
    monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], maker_version=3))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="expected digits of version 3, found version 2; delete the folder"):
        obtain("digits", tmp_path)
    monkeypatch.undo()
    (folder / ".made_by").unlink()
    with pytest.raises(DataError, match="expected digits of version 2, found an unknown version; delete the folder"):
        obtain("digits", tmp_path)


def test_a_deleted_folder_is_made_again(tmp_path: Path, tiny_digits: None) -> None:
    folder = obtain("digits", tmp_path)
    shutil.rmtree(folder)
    assert obtain("digits", tmp_path) == folder


def test_folders_noted_with_a_digest_are_those_of_version_1(tmp_path: Path) -> None:
    """Before versions were set by hand, the note was a digest of the makers' source text."""
    notes = {
        "version 1": 1, "version 12": 12, "64a1019dd9a5a465": 1, "5faa050c575f7897": 1, "9d836cb67d180fbf": 1,
        "0123456789abcdef": None, "": None, "version": None, "1": None,
    }  # fmt: skip
    assert noted_version(tmp_path) is None
    for text, version in notes.items():
        (tmp_path / ".made_by").write_text(text)
        assert noted_version(tmp_path) == version, text

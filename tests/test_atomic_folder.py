"""Folders are written whole or not at all, by the three makers of embedded data too."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scipy import ndimage

from datasets import obtain
from datasets.contract import DataError
from datasets.embedded import digits, faces, rooms
from datasets.embedded.atomic_folder import atomic_folder

MAKERS = {"digits": digits.make, "rooms": rooms.make, "faces": faces.make}


def names(folder: Path) -> list[str]:
    """What stands in a folder, but for the note of which code has written it."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".made_by")


def test_appears_when_it_is_finished_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    with atomic_folder(folder) as unfinished:
        (unfinished / "file").write_text("whole")
        assert not folder.exists()
        assert unfinished.stat().st_dev == folder.parent.stat().st_dev
    assert (folder / "file").read_text() == "whole"
    assert names(folder.parent) == ["data"]


def test_may_be_read_by_whoever_may_read_other_folders(tmp_path: Path) -> None:
    (tmp_path / "ordinary").mkdir()
    with atomic_folder(tmp_path / "data"):
        pass
    assert (tmp_path / "data").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_leaves_nothing_when_it_fails(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_folder(tmp_path / "data") as unfinished:
        (unfinished / "file").touch()
        raise error
    assert names(tmp_path) == []


def test_a_faster_process_wins(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with atomic_folder(folder) as slower:
        (slower / "slower").touch()
        with atomic_folder(folder) as faster:
            (faster / "faster").touch()
    assert names(tmp_path) == ["data"]
    assert names(folder) == ["faster"]


def test_a_failed_rename_is_not_taken_for_a_lost_race(tmp_path: Path) -> None:
    with pytest.raises(OSError), atomic_folder(tmp_path / "data") as unfinished:
        unfinished.rmdir()
    assert names(tmp_path) == []


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("elsewhere", "link"):
        with atomic_folder(tmp_path / name) as unfinished:
            (unfinished / "file").touch()
        assert names(tmp_path / name) == ["file"]
        for child in (tmp_path / name).iterdir():
            child.unlink()
    assert names(tmp_path) == ["elsewhere", "link"]


def test_a_file_of_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(FileExistsError, match="move it away"), atomic_folder(tmp_path / "data"):
        pass
    assert (tmp_path / "data").read_text() == "mine"


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_makers_do_not_touch_what_is_there(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").write_text("kept")
    with pytest.raises(FileExistsError, match="move it away"):
        make(tmp_path / "data")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "mine"]


@pytest.mark.parametrize(
    ("make", "owner", "step"),
    [(digits.make, ndimage, "zoom"), (rooms.make, rooms, "render"), (faces.make, faces, "draw")],
    ids=MAKERS,
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


def test_data_of_other_code_is_refused_and_made_again_once_it_is_gone(tmp_path: Path) -> None:
    folder = obtain("digits", tmp_path)
    assert obtain("digits", tmp_path) == folder
    (folder / ".made_by").write_text("an older version")
    with pytest.raises(DataError, match="expected data made by this version of the suite, found data of another"):
        obtain("digits", tmp_path)
    shutil.rmtree(folder)
    assert obtain("digits", tmp_path) == folder

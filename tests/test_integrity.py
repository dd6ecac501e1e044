"""Prepared arrays stay what was decoded: digests, damage, copies; where they are; and reading without decoding."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import xxhash
from byte_loaders import LOG, first_byte, logged_byte
from numpy.typing import NDArray

from datasets.contract import DataError
from datasets.decoding.places import array_folders, user_cache
from datasets.decoding.prepare import Preparation, Progress, preparing
from datasets.errors import NotPrepared
from datasets.pixels import CACHE, Stored, decoded

FILES = 40
DAMAGED = 17
NOBODY = 65534
Load = Callable[[Path], NDArray[np.generic]]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Files of one byte, the index of the file."""
    (tmp_path / "set").mkdir()
    paths = [tmp_path / f"set/{index:03d}.bin" for index in range(FILES)]
    for index, path in enumerate(paths):
        path.write_bytes(bytes([index]))
    return paths


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def prepare(files: list[Path], load: Load = logged_byte, preparation: Preparation | None = None) -> Stored:
    with preparing(preparation or Preparation(1)):
        return decoded(files[0].parent, files, load, "byte", "bytes")


def decoded_again(files: list[Path]) -> list[str]:
    """The files decoded since the last call, except the first, which also determines shape and type."""
    log = files[0].parent / LOG
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(names[1:])


def array_of(folder: Path) -> Path:
    (array,) = folder.glob("*.npy")
    return array


def overwrite(array: Path, content: bytes, at: int, keep_time: bool = False) -> None:
    status = array.stat()
    with array.open("r+b") as file:
        file.seek(at)
        file.write(content)
    os.utime(array, ns=(0, status.st_mtime_ns + (0 if keep_time else 1)))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_digest_is_the_hash_of_a_row(files: list[Path], workers: int) -> None:
    stored = prepare(files, preparation=Preparation(workers))
    expected = [xxhash.xxh3_128_digest(bytes([index])) for index in range(FILES)]
    assert [row.tobytes() for row in stored.digests] == expected


def test_digests_are_not_computed_again(files: list[Path]) -> None:
    """They would differ after an edit that leaves size and time, which nothing else notices."""
    before = prepare(files).digests
    overwrite(array_of(files[0].parent / CACHE), b"\xff", 128 + DAMAGED, keep_time=True)
    after = prepare(files)
    assert after.values[DAMAGED] == 0xFF and np.array_equal(after.digests, before)


def test_a_row_that_changed_on_disk_is_decoded_again_and_reported(files: list[Path]) -> None:
    before = prepare(files)
    decoded_again(files)
    news: list[Progress] = []
    overwrite(array_of(files[0].parent / CACHE), b"\xff", 128 + DAMAGED)
    after = prepare(files, preparation=Preparation(1, news.append))
    assert after.values[:, 0].tolist() == list(range(FILES)) and np.array_equal(after.digests, before.digests)
    assert decoded_again(files) == [files[DAMAGED].name]
    assert {(now.damaged, now.total, now.kept) for now in news} == {(1, FILES, FILES - 1)}
    news.clear()
    prepare(files, preparation=Preparation(1, news.append))
    assert not news and not decoded_again(files)


def test_a_digest_that_changed_on_disk_is_made_again(files: list[Path]) -> None:
    before = prepare(files)
    array = array_of(files[0].parent / CACHE)
    overwrite(array, b"\xff", array.stat().st_size - 1)
    assert np.array_equal(prepare(files).digests, before.digests)


def test_a_row_of_an_unfinished_array_that_changed_on_disk_is_decoded_again(files: list[Path]) -> None:
    """An array that is finished with such a row would have the right digests and the wrong content."""
    prepare(files)
    decoded_again(files)
    array = array_of(files[0].parent / CACHE)
    part = array.rename(array.with_suffix(".part"))
    overwrite(part, b"\xff", 128 + DAMAGED)
    news: list[Progress] = []
    after = prepare(files, preparation=Preparation(1, news.append))
    assert after.values[:, 0].tolist() == list(range(FILES))
    assert decoded_again(files) == [files[DAMAGED].name]
    assert {(now.damaged, now.kept) for now in news} == {(1, FILES - 1)}


@pytest.mark.parametrize("suffix", [".npy", ".part"])
def test_a_damaged_header_is_no_array(files: list[Path], suffix: str) -> None:
    prepare(files)
    array = array_of(files[0].parent / CACHE)
    overwrite(array.rename(array.with_suffix(suffix)), b"\x36", 8)  # the length of the header
    assert prepare(files).values[:, 0].tolist() == list(range(FILES))


def test_a_copied_data_set_is_compared_once_and_decodes_nothing(files: list[Path]) -> None:
    before = prepare(files)
    decoded_again(files)
    root = files[0].parent.with_name("copy")
    shutil.copytree(files[0].parent, root)
    array = array_of(root / CACHE)
    os.utime(array)
    copied = [root / path.name for path in files]
    noted = array.with_suffix(".json").read_text()
    assert np.array_equal(prepare(copied).digests, before.digests)
    assert not decoded_again(copied)
    renewed = json.loads(array.with_suffix(".json").read_text())
    assert renewed != json.loads(noted) and renewed["mtime_ns"] == array.stat().st_mtime_ns


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"size": 1, "mtime_ns": 2}'])
def test_a_side_file_that_does_not_hold_is_renewed(files: list[Path], content: bytes) -> None:
    prepare(files)
    side = array_of(files[0].parent / CACHE).with_suffix(".json")
    whole = side.read_bytes()
    side.write_bytes(content)
    decoded_again(files)
    prepare(files)
    assert side.read_bytes() == whole and not decoded_again(files)


def test_an_array_without_digests_is_made_again_under_the_same_name(files: list[Path]) -> None:
    prepare(files)
    array = array_of(files[0].parent / CACHE)
    stamps = np.array([[path.stat().st_size, path.stat().st_mtime_ns] for path in files])
    array.write_bytes(array.read_bytes()[: 128 + FILES] + stamps.tobytes())  # as earlier versions stored it
    decoded_again(files)
    assert prepare(files).digests.shape == (FILES, 16)
    assert len(decoded_again(files)) == FILES and array_of(files[0].parent / CACHE) == array


def contents(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_where_nothing_may_be_decoded_a_missing_array_is_an_error(files: list[Path]) -> None:
    before = contents(files[0].parent)
    with pytest.raises(NotPrepared) as caught:
        prepare(files, preparation=Preparation(allowed=False))
    folder = files[0].parent
    assert str(caught.value) == f"{folder}: 40 of 40 bytes are not decoded yet, the first is {files[0]}"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert contents(folder) == before and not (folder.parent / "cache").exists()


def test_where_nothing_may_be_decoded_an_unfinished_array_is_an_error(files: list[Path]) -> None:
    files[35].write_bytes(b"two")
    with pytest.raises(DataError, match="like the others"):
        prepare(files)
    files[35].write_bytes(b"\x05")
    with pytest.raises(NotPrepared) as caught:
        prepare(files, preparation=Preparation(allowed=False))
    assert (caught.value.pending, caught.value.total, caught.value.first) == (8, FILES, str(files[32]))
    assert not caught.value.changed


def test_where_nothing_may_be_decoded_changes_are_an_error(files: list[Path]) -> None:
    prepare(files)
    for index in (3, 9):
        files[index].write_bytes(b"\x63")
        os.utime(files[index], ns=(0, index))
    before = contents(files[0].parent)
    with pytest.raises(NotPrepared, match=r": 2 of 40 bytes changed since they were decoded, the first is .*003\.bin"):
        prepare(files, preparation=Preparation(allowed=False))
    assert contents(files[0].parent) == before


@pytest.mark.parametrize("damaged", [False, True])
def test_where_nothing_may_be_decoded_nothing_is_written_about_a_copy(files: list[Path], damaged: bool) -> None:
    prepare(files)
    overwrite(array_of(files[0].parent / CACHE), b"\xff" if damaged else bytes([DAMAGED]), 128 + DAMAGED)
    before = contents(files[0].parent)
    if damaged:
        with pytest.raises(NotPrepared, match=r": 1 of 40 bytes .*017\.bin"):
            prepare(files, preparation=Preparation(allowed=False))
    else:
        assert prepare(files, preparation=Preparation(allowed=False)).values[DAMAGED] == DAMAGED
    assert contents(files[0].parent) == before


def test_arrays_go_into_the_folder_that_is_given(files: list[Path], tmp_path: Path) -> None:
    """Data sets of one name in several places have a folder each; links to one of them share its folder."""
    cache = tmp_path / "arrays"
    (tmp_path / "other").mkdir()
    shutil.copytree(files[0].parent, tmp_path / "other/set")
    (tmp_path / "link").symlink_to(files[0].parent)
    for root in (files[0].parent, tmp_path / "other/set", tmp_path / "link"):
        prepare([root / path.name for path in files], first_byte, Preparation(1, cache=cache))
        assert not (root / CACHE).exists()
    folders = sorted(cache.iterdir())
    assert len(folders) == 2 and all(folder.name.startswith("set-") for folder in folders)
    assert {len(list(folder.glob("*.npy"))) for folder in folders} == {1}


def as_another_user(work: Callable[[], None]) -> None:
    """As a user to whom permissions apply."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        work()
    finally:
        os.seteuid(before)


@pytest.fixture
def open_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user may enter, unlike those of pytest: a data set `set` to read, a cache to write."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        root.chmod(0o755)
        for name, mode in (("set", 0o755), ("cache", 0o777)):
            (root / name).mkdir()
            (root / name).chmod(mode)
        for index in range(3):
            (root / f"set/{index}.bin").write_bytes(bytes([index]))
        monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        yield root


def test_a_data_set_that_may_not_be_written_has_its_arrays_in_the_users_cache(open_root: Path) -> None:
    paths = [open_root / f"set/{index}.bin" for index in range(3)]
    own = user_cache()
    assert own is not None

    def work() -> None:
        assert prepare(paths, first_byte).values[:, 0].tolist() == [0, 1, 2]

    as_another_user(work)
    assert not (open_root / "set" / CACHE).exists()
    (folder,) = own.iterdir()
    assert array_folders(open_root / "set", None)[1] == folder and array_of(folder)


@pytest.mark.parametrize("damaged", [False, True])
def test_copied_arrays_of_a_data_set_that_may_not_be_written(open_root: Path, damaged: bool) -> None:
    """They are compared; damaged rows are decoded into the user's cache."""
    paths = [open_root / f"set/{index}.bin" for index in range(3)]
    (open_root / "set").chmod(0o777)
    prepare(paths, first_byte)
    array = array_of(open_root / "set" / CACHE)
    overwrite(array, b"\xff" if damaged else b"\x01", 129)
    for folder in array.parent, array.parent.parent:
        folder.chmod(0o555)
    before = contents(open_root / "set")

    def work() -> None:
        for _ in range(2):
            assert prepare(paths, first_byte).values[:, 0].tolist() == [0, 1, 2]

    as_another_user(work)
    assert contents(open_root / "set") == before
    assert (open_root / "cache" / "mtl-bench").exists() == damaged


def test_a_user_without_a_home_has_arrays_beside_the_data(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a number without an account."""

    def unknown(uid: int) -> NoReturn:
        raise KeyError(uid)

    for variable in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    prepare(files)
    assert array_of(files[0].parent / CACHE).is_file()


def test_files_that_are_links_are_those_that_they_lead_to(files: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "links"
    root.mkdir()
    links = [root / path.name for path in files]
    for link, path in zip(links, files, strict=True):
        link.symlink_to(path)
    prepare(links, first_byte)
    os.utime(files[3], ns=(0, 3))
    files[3].write_bytes(b"\x63")
    assert prepare(links, first_byte).values[3] == 0x63


def test_notes_of_killed_processes_are_removed(files: list[Path]) -> None:
    prepare(files)
    (array,) = (files[0].parent / CACHE).glob("*.npy")
    left = array.with_suffix(".json.0123456789abcdef.tmp")
    left.write_text("{")
    files[0].write_bytes(b"\7")
    os.utime(files[0], ns=(1, 1))
    prepare(files)
    assert array.with_suffix(".json").is_file() and not left.exists()

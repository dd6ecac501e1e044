"""Preparation: by several processes, after interruptions, on full disks; and its command."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from byte_loaders import DEADLY, LOG, deadly_byte, first_byte, logged_byte, mebibyte, wide_byte
from data_trees import REAL, SETTINGS, Trees, files_of, read, same, tensors, view
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from bench import data
from bench.cli import progress as progress_module
from bench.cli.progress import DecodingProgress
from bench.engine.device import peak_memory_mib, reset_peak_memory
from datasets import DATASETS
from datasets.contract import DataError, DataSettings
from datasets.decoding import prepare as decoding
from datasets.decoding import rows as row_sources
from datasets.decoding.prepare import Preparation, Progress, preparing
from datasets.pixels import CACHE, decoded, image_loader

FORKED = get_context("fork")
FILES = 200
WORKERS = pytest.mark.parametrize("workers", [1, 2])
NOBODY = 65534


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Files of one byte, the index of the file."""
    paths = [tmp_path / f"{index:03d}.bin" for index in range(FILES)]
    for index, path in enumerate(paths):
        path.write_bytes(bytes([index]))
    return paths


def prepare(files: Sequence[Path], load: Callable[[Path], NDArray[np.generic]], workers: int | None = 1) -> list[int]:
    with preparing(Preparation(workers)):
        return decoded(files[0].parent, files, load, "byte").values[:, 0].tolist()


def logged(root: Path) -> Counter[str]:
    """How often each file was decoded since the last call."""
    log = root / LOG
    names = log.read_text().split()
    log.unlink()
    return Counter(names)


def names(files: Sequence[Path], *more: Path) -> Counter[str]:
    return Counter(path.name for path in (*files, *more))


def in_a_process(work: Callable[[], object]) -> int | None:
    """The exit code: 0, 3 after a DataError, whose message is then in the file `error` of the working folder."""

    def with_the_error_in_a_file() -> None:
        try:
            work()
        except DataError as error:
            Path("error").write_text(str(error))
            os._exit(3)

    process = FORKED.Process(target=with_the_error_in_a_file)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(autouse=True)
def working_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))


@pytest.mark.parametrize("workers", [1, 3, None])
def test_rows_have_the_order_of_the_files(files: list[Path], workers: int | None) -> None:
    mixed = [files[index] for index in np.random.default_rng(0).permutation(FILES)]
    assert prepare(mixed, logged_byte, workers) == [path.read_bytes()[0] for path in mixed]
    assert logged(files[0].parent) == names(mixed, mixed[0])  # the first also determines shape and type


def test_whether_workers_are_worth_it_changes_nothing(monkeypatch: pytest.MonkeyPatch, files: list[Path]) -> None:
    monkeypatch.setattr(decoding, "_WORTH_WORKERS", 0.0)
    assert prepare(files, logged_byte, workers=None) == list(range(FILES))
    assert logged(files[0].parent) == names(files, files[0])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ("officehome", "nyuv2") else ()) for name in REAL]
)
def test_readers_get_the_same_from_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trees: Trees, name: str
) -> None:
    monkeypatch.setattr(row_sources, "FILES_PER_CHUNK", 3)
    view(trees(name), tmp_path, "train" if name == "nyuv2" else "")
    with preparing(Preparation(2)):
        by_workers = read(name, tmp_path)
    assert same(by_workers, read(name, trees(name)))


def test_progress_is_reported(files: list[Path]) -> None:
    news: list[Progress] = []
    with preparing(Preparation(2, news.append)):
        decoded(files[0].parent, files, first_byte, "byte", "numbers")
    assert [now.done for now in news] == sorted(now.done for now in news)
    assert (news[0].done, news[-1].done) == (0, FILES)
    assert {(now.what, now.folder, now.total, now.kept) for now in news} == {
        ("numbers", files[0].parent / CACHE, FILES, 0)
    }
    news.clear()
    with preparing(Preparation(2, news.append)):
        decoded(files[0].parent, files, first_byte, "byte")
    assert not news


def test_the_needed_room_is_reported(files: list[Path]) -> None:
    news: list[Progress] = []
    with preparing(Preparation(1, news.append)):
        decoded(files[0].parent, files[:8], mebibyte, "mebibyte")
    assert 8 * 2**20 - 2**14 < news[0].needed < 8 * 2**20 + 2**14 and news[0].free > news[0].needed


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError])
@WORKERS
def test_an_interruption_keeps_what_is_decoded(files: list[Path], error: type[BaseException], workers: int) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done > FILES // 2:
            raise error

    with pytest.raises(error), preparing(Preparation(workers, interrupt)):
        decoded(files[0].parent, files, logged_byte, "byte")
    before = logged(files[0].parent)
    assert not list((files[0].parent / CACHE).glob("*.npy"))
    assert prepare(files, logged_byte) == list(range(FILES))
    after = logged(files[0].parent)
    kept = FILES - (len(after) - 1)
    assert kept > FILES // 2 and set(before) | set(after) == {path.name for path in files}


@WORKERS
def test_a_process_that_is_killed_keeps_what_is_decoded(
    monkeypatch: pytest.MonkeyPatch, files: list[Path], workers: int
) -> None:
    monkeypatch.setattr(decoding, "_MARK_EVERY", 0.0)

    def kill(progress: Progress) -> None:
        if progress.done > FILES // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        with preparing(Preparation(workers, kill)):
            decoded(files[0].parent, files, logged_byte, "byte")

    assert in_a_process(work) == -signal.SIGKILL
    logged(files[0].parent)
    assert prepare(files, logged_byte) == list(range(FILES))
    assert len(logged(files[0].parent)) < FILES * 0.7


def test_a_worker_that_dies_is_reported_with_its_files(files: list[Path]) -> None:
    content = files[70].read_bytes()
    files[70].write_bytes(DEADLY)
    with pytest.raises(DataError, match=r"064\.bin: expected this file and the next 31 .*exit code -9.*it continues"):
        prepare(files, deadly_byte, workers=2)
    assert not list((files[0].parent / CACHE).glob("*.npy"))
    files[70].write_bytes(content)
    assert prepare(files, deadly_byte, workers=2) == list(range(FILES))


@WORKERS
def test_a_file_of_another_shape_is_named_and_the_rest_is_kept(files: list[Path], workers: int) -> None:
    files[150].write_bytes(b"two")
    for _ in range(2):  # the second call continues the first
        with pytest.raises(DataError, match=rf"{re.escape(str(files[150]))}: expected \(1,\) .*found \(3,\)"):
            prepare(files, logged_byte, workers)
    logged(files[0].parent)
    files[150].write_bytes(b"\x07")
    assert prepare(files, logged_byte)[149:152] == [149, 7, 151]
    assert len(logged(files[0].parent)) < FILES // 2


@WORKERS
def test_a_file_of_another_type_is_named(tmp_path: Path, workers: int) -> None:
    paths = [tmp_path / f"{index}" for index in range(70)]
    for index, path in enumerate(paths):
        path.write_bytes(b"a" * (16 if index == 66 else 8))
    with pytest.raises(DataError, match=f"{re.escape(str(paths[66]))}: expected int8 .* found int16; replace"):
        prepare(paths, wide_byte, workers)


def test_only_changed_files_are_decoded_again(files: list[Path]) -> None:
    assert prepare(files, logged_byte) == list(range(FILES))
    old = decoded(files[0].parent, files, first_byte, "byte").values
    logged(files[0].parent)
    for index in (3, 199):
        files[index].write_bytes(b"\x63")
        os.utime(files[index], ns=(0, index))
    expected = [0x63 if index in (3, 199) else index for index in range(FILES)]
    assert prepare(files, logged_byte, workers=2) == expected
    assert logged(files[0].parent) == names([files[0], files[3], files[199]])
    assert old[:, 0].tolist() == list(range(FILES))  # a run that goes on reads what it began with
    assert len(list((files[0].parent / CACHE).glob("*.npy"))) == 1


def test_files_that_all_changed_their_shape_are_decoded_again(files: list[Path]) -> None:
    prepare(files, first_byte)
    for path in files:
        path.write_bytes(b"ab")
    assert decoded(files[0].parent, files, first_byte, "byte").values.tolist() == [list(b"ab")] * FILES


@pytest.mark.parametrize("kind", ["npy", "part"])
@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_a_file_cut_short_is_not_taken_for_complete(files: list[Path], kind: str, left: int) -> None:
    prepare(files, first_byte)
    (array,) = (files[0].parent / CACHE).glob("*.npy")
    with array.open("r+b") as file:
        file.truncate(left if left >= 0 else array.stat().st_size - 1)
    array.rename(array.with_suffix(f".{kind}"))
    assert prepare(files, first_byte) == list(range(FILES))


def test_two_processes_at_once_decode_every_file_once(files: list[Path]) -> None:
    processes = [FORKED.Process(target=prepare, args=(files, logged_byte)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert logged(files[0].parent) == names(files, files[0])


@WORKERS
@pytest.mark.parametrize("begun", [False, True])
def test_a_file_that_may_not_grow_leaves_no_complete_array(files: list[Path], workers: int, begun: bool) -> None:
    folder = files[0].parent / CACHE
    if begun:  # rows, not the file itself, meet the limit
        files[100].write_bytes(b"two")
        with pytest.raises(DataError):
            prepare(files, first_byte)
        files[100].write_bytes(b"\x64")

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))  # bytes: the header and some rows
        prepare(files, first_byte, workers)

    assert in_a_process(work) == 3
    error = Path("error").read_text()
    assert error.startswith(f"{folder}: could not write") and "File too large" in error and "\n" not in error
    assert not list(folder.glob("*.npy"))
    assert prepare(files, first_byte) == list(range(FILES))


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A separate disk, if this user may mount one."""
    place = folder / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user can't mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_too_little_room_is_reported_before_anything_is_decoded(tmp_path: Path) -> None:
    with small_disk(tmp_path, 4) as place:
        paths = [place / f"{index}" for index in range(8)]
        for path in paths:
            path.write_bytes(b"a")
        with pytest.raises(DataError, match=r"expected [\d.]+ MiB free .* found [\d.]+ MiB; make room"):
            prepare(paths, mebibyte)
        assert not list((place / CACHE).glob("*.npy"))


@WORKERS
def test_a_full_disk_is_reported_and_decoded_rows_are_reused(tmp_path: Path, workers: int) -> None:
    with small_disk(tmp_path, 80) as place:
        paths = [place / f"{index}" for index in range(70)]
        for index, path in enumerate(paths):
            path.write_bytes(bytes([index]))

        def fill(progress: Progress) -> None:
            if progress.done == 0:
                (place / "another").write_bytes(bytes(30 * 2**20))

        with (
            pytest.raises(DataError, match=f"{re.escape(str(place / CACHE))}: could not write .*No space left"),
            preparing(Preparation(workers, fill)),
        ):
            decoded(place, paths, mebibyte, "byte")
        assert not list((place / CACHE).glob("*.npy"))
        (place / "another").unlink()
        assert prepare(paths, mebibyte, workers) == list(range(70))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        yield Path(place)


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """As a user to whom permissions apply."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("closed", ["a/1.png", "a"])
def test_what_may_not_be_read_is_named(open_folder: Path, closed: str) -> None:
    (open_folder / "a").mkdir()
    (open_folder / CACHE).mkdir(mode=0o777)
    (open_folder / CACHE).chmod(0o777)
    paths = [open_folder / f"a/{index}.png" for index in range(3)]
    for path in paths:
        Image.new("RGB", (4, 4)).save(path)
    (open_folder / closed).chmod(0)
    named = paths[1] if closed.endswith("png") else paths[0]
    with without_privileges(), pytest.raises(DataError, match=f"{re.escape(str(named))}: .*change its permissions"):
        decoded(open_folder, paths, image_loader((4, 4)), "image")
    (open_folder / closed).chmod(0o755)


def test_a_folder_that_may_not_be_written_is_named(open_folder: Path) -> None:
    (open_folder / "1.bin").write_bytes(b"a")
    cache = open_folder / "cache"
    cache.mkdir()
    open_folder.chmod(0o555)
    message = f"{cache}/\\S+: could not write .*Permission denied.*--cache-dir"
    with without_privileges(), preparing(Preparation(1, cache=cache)), pytest.raises(DataError, match=message):
        decoded(open_folder, [open_folder / "1.bin"], first_byte, "byte")


def test_what_is_decoded_does_not_stay_in_memory(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    paths = [tmp_path / f"{index}" for index in range(96)]
    for path in paths:
        path.write_bytes(b"a")

    def work() -> None:
        reset_peak_memory(cpu)
        before = peak_memory_mib(cpu)
        prepare(paths[:2], mebibyte)
        prepare(paths, mebibyte)
        after = peak_memory_mib(cpu)
        if before is None or after is None:
            os._exit(4)
        Path("grown").write_text(str(after - before))

    if in_a_process(work) == 4:
        pytest.skip("this system doesn't report the memory of a process")
    assert float(Path("grown").read_text()) < 24  # of 96 MiB


def test_the_command_prepares_for_the_reader(tmp_path: Path, trees: Trees, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "office31"
    view(trees("office31"), root, "dslr/images/TV")
    command = ["prepare", "office31", "--data-root", str(tmp_path), "--workers", "2"]
    count = sum(files_of(domain, label) for domain in range(3) for label in range(31))
    assert data.main(command) == 0
    first = capsys.readouterr().out
    assert f"{count:,} files decoded" in first and "GiB are free" in first
    assert data.main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    info = DATASETS["office31"]
    arrays = set((root / CACHE).iterdir())
    read("office31", root, DataSettings(info.image_size))
    assert set((root / CACHE).iterdir()) == arrays


@pytest.fixture
def office(tmp_path: Path, trees: Trees) -> Path:
    """A small Office-31, in a data root of its own."""
    (tmp_path / "data").mkdir()
    view(trees("office31"), tmp_path / "data/office31", "dslr/images/TV")
    return tmp_path / "data/office31"


def command(root: Path, *arguments: str | Path) -> int:
    return data.main([*map(str, arguments), "--data-root", str(root.parent)])


def sizes_in(folder: Path) -> set[tuple[int, ...]]:
    """The shapes of rows of all arrays there."""
    return {np.load(path, mmap_mode="r").shape[1:] for path in folder.glob("*.npy")}


def test_the_command_prepares_an_image_size(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for size in (["8", "6"], ["none"]):
        assert command(office, "prepare", "office31", "--image-size", *size) == 0
    assert sizes_in(office / CACHE) == {(8, 6, 3), (7, 9, 3)}
    capsys.readouterr()
    for size in (["8"], ["none", "8"], ["1", "2", "3"]):
        assert command(office, "prepare", "office31", "--image-size", *size) == 2
        assert f"expected height and width, or none, found {' '.join(size)}" in capsys.readouterr().err


def test_the_command_says_where_the_arrays_are(
    office: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(office, "prepare", "office31", "--image-size", "8", "6") == 0
    assert f"reads the arrays in {office / CACHE}.\n" in capsys.readouterr().out
    cache = tmp_path / "arrays"
    for arguments in (["--cache-dir", cache], []):  # the second finds what the first made
        assert command(office, "prepare", "office31", "--image-size", "8", "8", *arguments) == 0
        (folder,) = cache.iterdir()
        printed = capsys.readouterr().out
        assert f"reads the arrays in {folder}.\n" in printed
        assert ("nothing to do" in printed) == (not arguments)
        monkeypatch.setenv("MTL_CACHE", str(cache))
    assert sizes_in(folder) == {(8, 8, 3)} and sizes_in(office / CACHE) == {(8, 6, 3)}
    shutil.rmtree(office / CACHE)
    command(office, "list")
    assert re.search(r"^office31 .* 0 MB ", capsys.readouterr().out, re.MULTILINE)


def progress_lines(only_bars: bool, steps: Sequence[tuple[int, int]]) -> list[str]:
    """What is printed on an array with (done, damaged) as reported, if output is piped."""
    stream = io.StringIO()
    with DecodingProgress(Console(file=stream, width=200), only_bars) as progress:
        for done, damaged in steps:
            progress(Progress("images", "file", Path("folder"), done, 1000, 0, damaged, 2**30, 2**31))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("only_bars", [False, True])
def test_progress_is_a_line_per_tenth_if_output_is_piped(monkeypatch: pytest.MonkeyPatch, only_bars: bool) -> None:
    monkeypatch.setattr(progress_module, "LONG_DECODING", 0.0)
    opening, *lines = progress_lines(only_bars, [(done, 0) for done in range(0, 1001, 25)])
    assert opening == "images: 1,000 files; needs 1.00 GiB in folder, 2.0 GiB are free"
    assert [line.split(" of ")[0] for line in lines] == [f"images: {100 * tenth:,}" for tenth in range(1, 11)]
    assert "1,000 files (10 %), " in lines[0] and lines[0].endswith(" s left")
    assert lines[-1].startswith("images: 1,000 of 1,000 files (100 %), done in ")


def test_quick_arrays_get_no_such_lines() -> None:
    steps = [(0, 0), (500, 0), (1000, 0)]
    assert not progress_lines(True, steps) and len(progress_lines(False, steps)) == 1


def test_damaged_rows_are_said() -> None:
    (line,) = progress_lines(True, [(997, 3), (1000, 3)])
    assert line.startswith("images: 3 of 1,000 rows of the prepared array in folder changed on disk")


def test_the_command_names_an_invalid_file(tmp_path: Path, trees: Trees, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "office31"
    view(trees("office31"), root, "dslr/images/TV")
    invalid = root / "dslr/images/TV/frame_0002.jpg"
    invalid.write_bytes(invalid.read_bytes()[:200])
    assert data.main(["prepare", "office31", "--data-root", str(tmp_path), "--workers", "2"]) == 2
    assert capsys.readouterr().err.startswith(f"{invalid}: expected a readable image, found ")
    assert data.main(["prepare", "office13", "--data-root", str(tmp_path)]) == 2
    assert "Did you mean 'office31'?" in capsys.readouterr().err


def test_a_prepared_tree_needs_no_rights_to_write(open_folder: Path, trees: Trees) -> None:
    shutil.copytree(trees("celeba"), open_folder / "celeba")
    expected = tensors(read("celeba", open_folder / "celeba", SETTINGS))
    for folder in (open_folder, open_folder / "celeba"):
        folder.chmod(0o555)
    with without_privileges():
        found = tensors(read("celeba", open_folder / "celeba", SETTINGS))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))

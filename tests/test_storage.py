"""Disks that are full or read-only, folders of other users, limits, and standard output that nobody reads."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import ROOT
from bench.engine.storage import FILES_OF_A_RUN, storage_errors
from bench.records.all_records import read_records
from bench.records.files import StorageError, atomic_write, atomic_write_text, is_file, matching, storage_error
from bench.records.store import CHECKPOINT, RECORD
from bench.spec.resolve import RunSpec, resolve

DONE = ROOT / "results" / "reference" / "ablation" / "digits" / "ew"
# Root without capabilities is bound by permissions like every user, and can still run this interpreter.
_UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
NOBODY = 65534


@pytest.fixture(scope="session")
def bound() -> list[str]:
    """What to put before a command so that permissions bind it."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None or subprocess.run([*_UNPRIVILEGED, "true"], capture_output=True).returncode:
        pytest.skip("permissions don't bind root, and setpriv can't drop its capabilities here")
    return _UNPRIVILEGED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory, with these options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mounted(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this user may not mount file systems here")
        return place

    yield mounted
    if os.path.ismount(place):
        subprocess.run(["umount", str(place)], check=True)


def command(
    *arguments: str | Path, before: Sequence[str] = (), stdout: Any = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Runs python -m bench, with what is put before it."""
    return subprocess.run(
        [*before, sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )


def one_line(ended: subprocess.CompletedProcess[str], *fragments: str) -> None:
    """Exit code 2, and one line on standard error with all of these fragments."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1 and all(fragment in ended.stderr for fragment in fragments), ended.stderr


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three finished runs."""
    shutil.copytree(DONE, tmp_path / "results" / "digits" / "ew")
    return tmp_path / "results"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, ("expected free space, found", "KiB on the file system at /", "make room there")),
        (errno.EDQUOT, ("the quota of user", "used up")),
        (errno.EROFS, ("mounted read-only", "name another folder")),
        (errno.EACCES, ("expected permission for user", "of user", "rw")),
        (errno.EPERM, ("expected permission for user", "immutable")),
        (errno.EIO, ("input/output error", "check the disk")),
        (errno.EMFILE, ("the limit", "ulimit -n")),
        (errno.ENAMETOOLONG, ("too long", "shorter path")),
        (errno.ELOOP, ("links that lead to each other",)),
        (errno.EISDIR, ("expected a file, found a folder",)),
        (errno.ENOENT, ("expected it, found nothing",)),
        (errno.ESTALE, ("network drive",)),
        (errno.EXDEV, (os.strerror(errno.EXDEV).lower(), "check that place")),
    ],
)
def test_errors_of_the_system_say_what_was_found_and_what_to_do(
    number: int, words: tuple[str, ...], tmp_path: Path
) -> None:
    message = str(storage_error(tmp_path / "absent" / "record.json", OSError(number, os.strerror(number))))
    assert message.startswith(f"{tmp_path}/absent/record.json: ") and "\n" not in message
    assert all(word in message for word in words), message
    assert message.endswith("then give the same command again. Finished runs are kept.")


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(StorageError, match=f"expected a folder at {tmp_path}/results, found a file"):
        atomic_write_text(tmp_path / "results" / "digits" / RECORD, "{}")


def test_an_error_of_the_system_is_found_behind_those_of_libraries(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            raise AttributeError("'Stream' object has no attribute 'pos'")

    with pytest.raises(StorageError, match="expected free space"):
        atomic_write(tmp_path / "scores.pdf", write)
    with pytest.raises(ZeroDivisionError):
        atomic_write(tmp_path / "scores.pdf", lambda path: 1 / 0)


def test_a_file_over_the_limit_leaves_the_former_one(tmp_path: Path) -> None:
    path = atomic_write_text(tmp_path / RECORD, "former")
    code = (
        "import resource, sys, pathlib; from bench.records.files import atomic_write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); atomic_write_text(pathlib.Path(sys.argv[1]), 'x' * 999)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert "StorageError" in ended.stderr and "found a limit of 100 bytes" in ended.stderr
    assert path.read_text() == "former" and os.listdir(tmp_path) == [RECORD]


def test_a_full_disk_leaves_the_former_file(small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("size=16k")
    path = atomic_write_text(disk / RECORD, "former")
    with pytest.raises(StorageError, match=f"found 0 KiB on the file system at {disk}"):
        atomic_write_text(path, "x" * 20_000)
    assert path.read_text() == "former" and os.listdir(disk) == [RECORD]


def test_a_disk_without_room_for_another_file_says_so(small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("size=1m,nr_inodes=2")
    path = atomic_write_text(disk / "first", "")
    with pytest.raises(StorageError, match="expected room for another file, found none"):
        atomic_write_text(path, "")


def test_listing_is_that_of_glob(results: Path) -> None:
    (results / "digits" / "note").write_text("")
    assert matching(results, "*", "*", "seed-*", RECORD) == sorted(results.glob(f"*/*/seed-*/{RECORD}"))
    assert not matching(results / "absent", "*.json") and not is_file(results / "absent" / RECORD)
    assert not is_file(results / "digits" / "note" / RECORD)


# Hides each place for a moment and prints what reading all records raises then.
_HIDING = """
import sys
from pathlib import Path
from bench.records.files import StorageError
from bench.records.all_records import read_records
from bench.records.store import RecordError
for place in (Path(sys.argv[1], name) for name in sys.argv[2:]):
    mode = place.stat().st_mode
    place.chmod(0)
    try:
        print(len(read_records(Path(sys.argv[1]))))
    except (StorageError, RecordError) as error:
        print(error)
    place.chmod(mode)
"""


def test_what_may_not_be_read_is_never_left_out(results: Path, bound: list[str]) -> None:
    places = ["", "digits", "digits/ew", "digits/ew/seed-1", "digits/ew/seed-1/record.json"]
    code = [*bound, sys.executable, "-c", _HIDING, str(results), *places]
    lines = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for place, line in zip(places, lines, strict=True):
        assert f"found {results / place} of user" in line
    assert len(read_records(results)) == 3


def spec(seed: int = 0) -> RunSpec:
    return resolve("digits", "ew", seed=seed)


def test_runs_are_not_started_where_they_cannot_be_recorded(tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    assert storage_errors([spec()], tmp_path / "results", jobs=1) == []
    (tmp_path / "file").write_text("")
    (error,) = storage_errors([spec(0), spec(1)], tmp_path / "file", jobs=1)
    assert "expected a folder" in error
    disk = small_disk(f"size=64k,nr_inodes={FILES_OF_A_RUN}")
    inodes, room = storage_errors([spec(0), spec(1)], disk / "results", jobs=2)
    assert "expected room for 16 files" in inodes and "MiB free for records and checkpoints, found 0.1 MiB" in room
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    (error,) = storage_errors([spec(0), spec(1)], disk / "results", jobs=2)
    assert "mounted read-only" in error


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_that_cannot_be_written_is_one_line_and_2(
    unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        one_line(command("bench", stdout=full), "Standard output can't be written (No space left on device)")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_that_nobody_reads_ends_a_command_as_shells_expect(
    unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    reading, writing = os.pipe()
    os.close(reading)
    ended = command("bench", stdout=writing)
    os.close(writing)
    assert ended.returncode == 141 and ended.stderr == ""


def test_closed_standard_streams_do_no_harm() -> None:
    ended = command("bench", before=["sh", "-c", 'exec "$@" <&- >&-', "sh"])
    assert ended.returncode == 0 and ended.stderr == ""


def test_a_deleted_working_directory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    gone = tmp_path / "gone"
    gone.mkdir()
    ended = command("bench", before=["sh", "-c", f'cd "{gone}"; rmdir "{gone}"; exec "$@"', "sh"])
    one_line(ended, "The working directory was deleted")


# {place} is where they write, {results} has finished runs, {data} has embedded data.
WRITING = {
    "report": ("bench.report", "--results", "{results}", "--out", "{place}"),
    "run": ("bench.run", "--method", "ew", "--data", "digits", "--data-root", "{data}", "--results", "{place}"),
    "make": ("bench.data", "prepare", "digits", "--data-root", "{place}"),
    "make-rooms": ("bench.data", "prepare", "rooms", "--data-root", "{place}"),
    "make-faces": ("bench.data", "prepare", "faces", "--data-root", "{place}"),
    "decode": ("bench.data", "prepare", "digits", "--data-root", "{data}", "--cache-dir", "{place}"),
    "show": ("bench.data", "show", "rooms", "--data-root", "{data}", "--out", "{place}/sheet.png"),
    "toy": ("bench.toy", "--method", "ew", "--steps", "5", "--out", "{place}"),
    "speed": ("bench.speed", "solvers", "--tasks", "2", "--rounds", "1", "--out", "{place}"),
    "relations": ("bench.relations", "--results", f"{ROOT}/results/reference/relations", "--out", "{place}"),
}
WHERE_PERMISSIONS_COUNT = ("report", "run", "make", "decode")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *((name, "full") for name in WRITING),
        *((name, fault) for fault in ("read-only", "other user") for name in WHERE_PERMISSIONS_COUNT),
    ],
)
def test_every_command_ends_with_one_line_where_it_cannot_write(
    name: str,
    fault: str,
    small_disk: Callable[[str], Path],
    bound: list[str],
    results: Path,
    data_root: Path,
) -> None:
    place = small_disk("size=40k")
    if fault == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    elif fault == "other user":
        os.chown(place, NOBODY, NOBODY)
        place.chmod(0o755)
    filled = [text.format(results=results, place=place, data=data_root) for text in WRITING[name]]
    one_line(command(*filled, before=bound), str(place))
    assert not [path for path in place.rglob("*") if path.name.endswith(".tmp")]
    assert len(read_records(results)) == 3


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_a_grid_and_the_same_command_finishes_it(
    small_disk: Callable[[str], Path], data_root: Path, tmp_path: Path
) -> None:
    disk = small_disk("size=6m")
    asked = ["bench.run", "--method", "ew", "normal", "--data", "digits", "--seeds", "0", "1", "--epochs", "4"]
    asked += ["--device", "cpu", "--jobs", "2", "--data-root", str(data_root)]
    grid = [*asked, "--results", disk / "results", "--cache-dir", disk / "cache"]
    ended = threading.Event()

    def fill() -> None:
        while not ended.wait(0.01) and not list(disk.rglob(RECORD)):
            pass
        with (disk / "fill").open("wb", buffering=0) as file:
            while not ended.is_set():
                try:
                    file.write(b"x" * 4096)
                except OSError:
                    time.sleep(0.001)

    filler = threading.Thread(target=fill)
    filler.start()
    try:
        one_line(command(*grid), "expected free space", f"the file system at {disk}")
    finally:
        ended.set()
        filler.join()
    kept = {path: path.read_bytes() for path in disk.rglob(RECORD)}
    assert kept and all(json.loads(text)["status"] == "done" for text in kept.values())
    (disk / "fill").unlink()
    assert command(*grid).returncode == 0
    assert all(path.read_bytes() == text for path, text in kept.items())
    assert not list(disk.rglob(CHECKPOINT))
    assert command(*asked, "--results", tmp_path / "whole").returncode == 0
    assert scores(disk / "results") == scores(tmp_path / "whole")


def scores(results: Path) -> list[dict[str, Any]]:
    """What doesn't depend on time and machine in the records."""
    measured = {"seconds", "step_seconds", "peak_memory_mib", "idle_memory_mib", "environment", "lost", "resumed"}
    return [record.model_dump(exclude=measured) for record in read_records(results)]

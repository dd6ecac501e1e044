"""NYUv2 in its parquet form: decoded once, changed files noticed, and what is wrong named by file."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from byte_loaders import LOG, logged_numbers
from data_trees import columns_of, read, same, scene, tensors, write_parquet
from PIL import Image

from bench import ROOT
from datasets.contract import DataError
from datasets.decoding import table
from datasets.decoding.prepare import Preparation, Progress, preparing
from datasets.parquet import decoded_column, decoded_images, scalar_columns
from datasets.pixels import CACHE, decoded, image_loader

TRAIN_2 = "data/train-00002-of-00004-0123456789abcdef.parquet"
VAL_1 = "data/val-00001-of-00002-0123456789abcdef.parquet"
Spoil = Callable[[Path], object]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_parquet(tmp_path)
    return tmp_path


def rewritten(change: Callable[[pyarrow.Table], pyarrow.Table]) -> Spoil:
    def spoil(path: Path) -> None:
        pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(path)), path)

    return spoil


def column(name: str, values: Callable[[list[object]], list[object]], kind: pyarrow.DataType | None = None) -> Spoil:
    """A column with other rows."""

    def change(table: pyarrow.Table) -> pyarrow.Table:
        array = pyarrow.array(values(table[name].to_pylist()), type=kind or table[name].type)
        return table.set_column(table.schema.get_field_index(name), name, array)

    return rewritten(change)


def pixel(name: str, value: float | None, *place: int) -> Spoil:
    """One value of the second row changed."""

    def values(rows: list[object]) -> list[object]:
        lists: list[object] = rows[1]  # type: ignore[assignment]
        *way, last = place
        for index in way:
            lists = lists[index]  # type: ignore[assignment]
        lists[last] = value
        return rows

    return column(name, values)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damaged(path: Path) -> None:
    """The pages overwritten, the footer left: it opens, and can't be read."""
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 3] = os.urandom(len(content) // 3 - 4)
    path.write_bytes(content)


READABLE = "a readable parquet file, found "
FAULTS: dict[str, tuple[str, Spoil, str]] = {
    "truncated": (TRAIN_2, cut, f"{TRAIN_2}: expected {READABLE}"),
    "damaged": (TRAIN_2, damaged, f"{TRAIN_2}: expected {READABLE}"),
    "a page of the web": (VAL_1, lambda p: p.write_bytes(b"<html>"), f"{VAL_1}: expected {READABLE}"),
    "file missing": (
        TRAIN_2,
        lambda p: p.unlink(),
        "data: expected 4 files train-*.parquet as their names say, found 3",
    ),
    "column missing": (
        VAL_1,
        rewritten(lambda table: table.drop_columns(["normal"])),
        f"{VAL_1}: expected a column normal, found image, segmentation, depth, noise",
    ),
    "label too high": (
        TRAIN_2,
        pixel("segmentation", 13, 2, 3),
        f"{TRAIN_2}, row 1, segmentation: expected whole labels from -1 to 12, found 13",
    ),
    "label absent": (
        TRAIN_2,
        pixel("segmentation", None, 2, 3),
        f"{TRAIN_2}, row 1, segmentation: expected whole labels from -1 to 12, found nan",
    ),
    "image in bytes": (
        VAL_1,
        pixel("image", 255, 0, 1, 1),
        f"{VAL_1}, row 1, image: expected image values in [0, 1], ",
    ),
    "depth not a number": (
        VAL_1,
        pixel("depth", np.nan, 0, 1, 1),
        f"{VAL_1}, row 1, depth: expected finite values, found nan",
    ),
    "row missing": (
        VAL_1,
        column("depth", lambda rows: [rows[0], None, *rows[2:]]),
        f"{VAL_1}, depth: expected lists of one length in all rows, found others",
    ),
    "rows of two lengths": (
        VAL_1,
        column("segmentation", lambda rows: [rows[0], rows[1][:3], *rows[2:]]),  # type: ignore[index]
        f"{VAL_1}, segmentation: expected lists of one length in all rows, found others",
    ),
    "other size": (
        TRAIN_2,
        column("segmentation", lambda rows: [row[:3] for row in rows]),  # type: ignore[index]
        f"{TRAIN_2}, row 0, segmentation: expected height, width and channels 4×6, found 3×6",
    ),
    "channels last": (
        TRAIN_2,
        column("image", lambda rows: [np.moveaxis(np.array(row), 0, -1).tolist() for row in rows]),
        f"{TRAIN_2}, row 0, image: expected height, width and channels 4×6×3, found 6×3×4",
    ),
    "encoded images": (
        TRAIN_2,
        column("image", lambda rows: [b"jpeg"] * len(rows), pyarrow.binary()),
        f"{TRAIN_2}, image: expected lists of numbers, found binary",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_named(root: Path, fault: tuple[str, Spoil, str]) -> None:
    place, spoil, message = fault
    spoil(root / place)
    with pytest.raises(DataError) as caught:
        read("nyuv2", root)
    assert str(caught.value).startswith(f"{root}/{message}")
    assert "download the" in str(caught.value)
    assert not list(root.glob(f"{CACHE}/.*"))


def test_a_missing_test_part_is_named(root: Path) -> None:
    for file in root.glob("data/val-*"):
        file.unlink()
    with pytest.raises(DataError, match=r"expected files val-\*\.parquet or files test-\*\.parquet beside"):
        read("nyuv2", root)


def test_files_without_rows_are_named(root: Path) -> None:
    for file in root.glob("data/val-*"):
        rewritten(lambda table: table.slice(0, 0))(file)
    with pytest.raises(DataError, match=r"val-00000\S+: expected rows, found none in any file"):
        read("nyuv2", root)


def test_a_second_read_decodes_nothing(root: Path) -> None:
    first = read("nyuv2", root)
    stamps = {file: file.stat().st_mtime_ns for file in root.glob(f"{CACHE}/*.npy")}
    assert len(stamps) == 8
    assert same(first, read("nyuv2", root))
    assert stamps == {file: file.stat().st_mtime_ns for file in root.glob(f"{CACHE}/*.npy")}


def test_a_changed_file_is_noticed(root: Path) -> None:
    before = read("nyuv2", root)
    time = (root / VAL_1).stat().st_mtime_ns
    pixel("depth", 17.0, 0, 2, 2)(root / VAL_1)
    os.utime(root / VAL_1, ns=(time, time + 1_000_000))
    after = read("nyuv2", root)
    changed = [a - b for a, b in zip(tensors(after), tensors(before), strict=True) if not a.equal(b)]
    assert len(changed) == 1
    assert changed[0].count_nonzero() == 1
    assert (after.test[0].targets[1] == 17).sum() == 1


def test_lists_of_other_kinds_are_read(root: Path) -> None:
    before = read("nyuv2", root)
    large = pyarrow.large_list(pyarrow.list_(pyarrow.int32(), 6))
    column("segmentation", lambda rows: rows, large)(root / VAL_1)
    assert same(before, read("nyuv2", root))


def test_without_pyarrow_the_install_command_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError) as caught:
        read("nyuv2", root)
    assert str(caught.value).endswith(
        "expected pyarrow, which reads it, found none; install it with: pip install -e '.[parquet]'"
    )


READ = """
import resource, sys
from pathlib import Path
from datasets.parquet import decoded_column
import pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
root = Path(sys.argv[1])
column = decoded_column(root, [root / "rows.parquet"], "normal", lambda row: row, "unchanged")
print(len(column.digests), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_stays_constant(tmp_path: Path) -> None:
    """A row group of 120 rows, 160 MB of normals of NYUv2's size: only some rows are held at a time."""
    rows, shape = 120, (3, 288, 384)
    values = pyarrow.array(np.zeros(rows * int(np.prod(shape)), dtype=np.float32))
    for extent in reversed(shape):
        values = pyarrow.FixedSizeListArray.from_arrays(values, extent)
        values = values.cast(pyarrow.list_(values.type.value_type))
    pyarrow.parquet.write_table(pyarrow.table({"normal": values}), tmp_path / "rows.parquet")
    # A process of its own: others hold memory from earlier tests, which hides what is allocated here, or adds to it.
    done = subprocess.run([sys.executable, "-c", READ, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True)
    read_rows, kibibytes = map(int, done.stdout.split())
    assert read_rows == rows
    assert kibibytes * 1024 < 120e6


def test_what_is_written_by_hand_is_what_is_read(root: Path) -> None:
    table = columns_of([scene(7)])
    assert table["segmentation"].to_pylist()[0][0][0] == -1
    assert table["normal"].to_pylist()[0][1][3] == [-1.0] * 6
    assert table["image"].to_pylist()[0][0][0][0] == pytest.approx(70 / 255)


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three files of 20 rows each, whose cells are lists of one number; row groups have 6 rows."""
    monkeypatch.setenv("DECODED_LOG", str(tmp_path / LOG))
    paths = [tmp_path / f"train-{index:05d}-of-00003.parquet" for index in range(3)]
    for index, path in enumerate(paths):
        write_numbers(path, range(20 * index, 20 * index + 20))
    return paths


def write_numbers(path: Path, values: range) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"x": [[value] for value in values]}), path, row_group_size=6)


def read_numbers(files: list[Path], workers: int = 1) -> list[int]:
    with preparing(Preparation(workers)):
        values: list[int] = decoded_column(files[0].parent, files, "x", logged_numbers, "number").values[:, 0].tolist()
    return values


def logged(files: list[Path]) -> list[int]:
    """The rows decoded since the last call, except the first, which also determines shape and type."""
    log = files[0].parent / LOG
    rows = [int(line) for line in log.read_text().split()]
    log.unlink()
    return sorted(rows[1:])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("per_chunk", [2, 512])
def test_rows_have_the_order_of_the_files(
    monkeypatch: pytest.MonkeyPatch, numbers: list[Path], workers: int, per_chunk: int
) -> None:
    monkeypatch.setattr(table, "_ROWS_PER_CHUNK", per_chunk)
    assert read_numbers(numbers, workers) == list(range(60))
    assert logged(numbers) == list(range(60))


def test_an_interrupted_table_is_continued_and_reported(numbers: list[Path]) -> None:
    news: list[Progress] = []

    def interrupt(progress: Progress) -> None:
        news.append(progress)
        if progress.done > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), preparing(Preparation(1, interrupt)):
        decoded_column(numbers[0].parent, numbers, "x", logged_numbers, "number", "numbers")
    assert [now.done for now in news] == [0, 6, 12, 18, 20, 26, 32]
    assert {(now.what, now.unit, now.total, now.kept) for now in news} == {("numbers", "row", 60, 0)}
    logged(numbers)
    assert read_numbers(numbers) == list(range(60))
    assert logged(numbers) == list(range(32, 60))


def test_only_rows_of_changed_files_are_decoded_again(numbers: list[Path]) -> None:
    read_numbers(numbers)
    logged(numbers)
    write_numbers(numbers[1], range(120, 140))
    assert read_numbers(numbers, 2) == [*range(20), *range(120, 140), *range(40, 60)]
    assert logged(numbers) == list(range(120, 140))


def test_rows_that_move_to_another_place_are_decoded_again(numbers: list[Path]) -> None:
    """As many rows in all, and an unchanged file between those that changed."""
    read_numbers(numbers)
    write_numbers(numbers[0], range(100, 121))
    write_numbers(numbers[2], range(40, 59))
    assert read_numbers(numbers) == [*range(100, 121), *range(20, 40), *range(40, 59)]


def photo(index: int, size: tuple[int, int] = (9, 7)) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(index).integers(256, size=(*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def write_images(path: Path, contents: list[bytes | None], kind: str = "struct") -> None:
    cells: pyarrow.Array = pyarrow.array(contents, type=pyarrow.binary())
    if kind == "struct":  # as Hugging Face stores images
        paths = pyarrow.array([None] * len(contents), type=pyarrow.string())
        cells = pyarrow.StructArray.from_arrays([cells, paths], ["bytes", "path"])
    pyarrow.parquet.write_table(pyarrow.table({"image": cells}), path)


@pytest.mark.parametrize("kind", ["struct", "bytes"])
def test_encoded_images_are_decoded_as_files_are(tmp_path: Path, kind: str) -> None:
    contents = [photo(index, (9 + index, 7)) for index in range(5)]
    shards = [tmp_path / "train-0.parquet", tmp_path / "train-1.parquet"]
    write_images(shards[0], contents[:3], kind)
    write_images(shards[1], contents[3:], kind)
    files = [tmp_path / f"{index}.jpg" for index in range(5)]
    for path, content in zip(files, contents, strict=True):
        path.write_bytes(content)
    from_files = decoded(tmp_path, files, image_loader((5, 4)), "image")
    with preparing(Preparation(2)):
        from_shards = decoded_images(tmp_path, shards, "image", (5, 4))
    assert from_shards.values.equal(from_files.values)
    assert np.array_equal(from_shards.digests, from_files.digests)
    with pytest.raises(DataError, match=r"train-0.parquet, row 1, image: .*like the others.*`data.image_size`"):
        decoded_images(tmp_path, shards, "image", None)


@pytest.mark.parametrize("content", [photo(1)[:100], b"GIF of a kind", None])
def test_an_image_that_is_damaged_or_missing_is_named(tmp_path: Path, content: bytes | None) -> None:
    write_images(tmp_path / "train.parquet", [photo(0), photo(1), content])
    with pytest.raises(DataError, match=r"train.parquet, row 2, image: expected a readable image, found .*; download"):
        decoded_images(tmp_path, [tmp_path / "train.parquet"], "image", (4, 4))


def test_images_that_are_not_bytes_are_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"image: expected the bytes of files, found list"):
        decoded_images(root, [root / TRAIN_2], "image", (4, 4))


def test_scalars_of_all_files(tmp_path: Path) -> None:
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2], "yes": [True, False], "s": ["x", "yy"]}), files[0])
    pyarrow.parquet.write_table(pyarrow.table({"n": [3], "yes": [True], "s": ["long"]}), files[1])
    found = scalar_columns(files, ["n", "yes", "s"])
    assert {name: values.tolist() for name, values in found.items()} == {
        "n": [1, 2, 3],
        "yes": [True, False, True],
        "s": ["x", "yy", "long"],
    }
    assert found["n"].dtype == np.int64 and found["yes"].dtype == np.bool_
    with pytest.raises(DataError, match=r"a.parquet: expected a column m, found n, yes, s"):
        scalar_columns(files, ["m"])


@pytest.mark.parametrize(
    ("values", "message"),
    [([1, None], "expected a value in every row, found none in row 1"), ([0.5, 1.0], "found double")],
)
def test_scalars_that_are_missing_or_of_another_kind_are_named(
    tmp_path: Path, values: list[float | None], message: str
) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"n": values}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=f"a.parquet, n: .*{message}"):
        scalar_columns([tmp_path / "a.parquet"], ["n"])

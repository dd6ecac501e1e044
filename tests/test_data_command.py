"""python -m bench.data check, show and list: on intact trees, damaged ones, and the embedded data sets."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from damages import DAMAGES, Damage, cut, removed, scaled, valued
from data_trees import (
    PARTS,
    REAL,
    SETTINGS,
    Trees,
    files_of,
    jpeg,
    read,
    same,
    scene,
    view,
    write_celeba_parquet,
    write_digits,
    write_office_parquet,
    write_parquet,
)
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import ExifTags, Image

from bench import data
from bench.inspection import data_check
from bench.inspection.contact_sheet import SEGMENT_COLOURS
from bench.inspection.data_check import sampled
from datasets import DATASETS, find
from datasets.contract import DataError, FileGroup, Inventory
from datasets.decoding.rows import FileRows

EMBEDDED = ("digits", "rooms", "faces")
PUBLISHED = {"office31": "4,110", "officehome": "15,588", "nyuv2": "795", "celeba": "162,770 / 19,867 / 19,962"}

Ask = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def small_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image size of the scenes in the trees, whose aspect ratio is not that of NYUv2."""
    monkeypatch.setitem(DATASETS, "nyuv2", replace(DATASETS["nyuv2"], image_size=(4, 6)))  # type: ignore[arg-type]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """bench.data: exit code, and all that it prints."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        code = data.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def placed(trees: Trees, name: str, root: Path, own: str = "") -> Path:
    """A tree in a data root, under a name that is found; only the folder `own` may be changed."""
    view(trees(name), root / name, own)
    return root / name


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_data_is_as_its_maker_writes_it(name: str, data_root: Path, ask: Ask) -> None:
    code, out = ask("check", name, "--data-root", data_root)
    assert code == 0 and "No errors." in out
    assert "differs" not in out and "wrong" not in out
    counts = [line for line in out.splitlines() if re.search(r" ok *$", line)]
    assert len(counts) >= 5


@pytest.mark.parametrize("name", REAL)
def test_other_counts_than_published_are_shown_and_are_no_error(
    name: str, trees: Trees, tmp_path: Path, ask: Ask
) -> None:
    placed(trees, name, tmp_path)
    code, out = ask("check", name, "--full", "--data-root", tmp_path)
    assert code == 0 and "differs" in out and "Usable, but not as published" in out
    assert PUBLISHED[name] in out and "wrong" not in out


def test_the_published_numbers_add_up() -> None:
    totals = {"office31": 4110, "officehome": 15588, "digits": 1797 * 4 * 2}
    for name, total in totals.items():
        assert DATASETS[name].published["images"] == (total,)
    assert sum(DATASETS["celeba"].published["train / validation / test"]) == 202_599
    published = DATASETS["office31"].published
    assert [published[f"{key}: images"] for key in ("amazon", "dslr", "webcam")] == [(2817,), (498,), (795,)]
    published = DATASETS["officehome"].published
    homes = [published[f"{key}: images"][0] for key in ("art", "clipart", "product", "real_world")]
    assert homes == [2427, 4365, 4439, 4357]


@pytest.mark.parametrize(
    ("name", "damage"),
    [pytest.param(name, damage, id=f"{name}-{key}") for name in DAMAGES for key, damage in DAMAGES[name].items()],
)
def test_check_names_every_file_that_stops_a_reader(
    name: str, damage: Damage, trees: Trees, tmp_path: Path, ask: Ask
) -> None:
    place = Path(damage.place)
    root = placed(trees, name, tmp_path, str(place.parent if place.suffix else place))
    damage.change(root / damage.place)
    code, out = ask("check", name, "--full", "--data-root", tmp_path)
    named = root / (damage.place if damage.named is None else damage.named)
    said = f": expected {damage.expected}" if name == "nyuv2" else ""  # the classes of Office are compared otherwise
    assert code == 1 and f"\n{named}{said}" in out and ": fix before any run." in out


def test_check_names_all_errors_at_once(trees: Trees, tmp_path: Path, ask: Ask) -> None:
    root = tmp_path / "nyuv2"
    shutil.copytree(trees("nyuv2"), root)
    cut(root / "train/depth/3.npy")
    valued(13)(root / "train/label/5.npy")
    removed(root / "val/normal/2.npy")
    valued(4000)(root / "val/depth/7.npy")  # millimetres
    code, out = ask("check", "nyuv2", "--data-root", tmp_path)
    assert code == 1 and "4 errors" in out
    for sentence in (
        "train/depth/3.npy: expected a readable .npy file, found",
        "train/label/5.npy: expected whole labels from -1 to 12, found 13",
        "val/normal/2.npy: expected a file, found none",
        "val/depth/7.npy: expected depths from 0 to 20 m, found 0 to 4000",
    ):
        assert f"\n{root}/{sentence}" in out
    assert re.search(r"train/label: all 15 files read .* 1 unreadable or out of range +wrong", out)


def test_missing_and_spare_classes_are_named_in_their_domain(trees: Trees, tmp_path: Path, ask: Ask) -> None:
    root = tmp_path / "officehome"
    shutil.copytree(trees("officehome"), root)
    removed(root / "Clipart/Table")
    (root / "Product/TV").rename(root / "Product/Television")
    cut(root / "Art/ToothBrush/frame_0001.jpg")
    code, out = ask("check", "officehome", "--full", "--data-root", tmp_path)
    assert code == 1 and "4 errors" in out
    for named in ("Clipart/Table", "Product/TV", "Product/Television", "Art/ToothBrush/frame_0001.jpg"):
        assert f"\n{root / named}: expected" in out


def test_absent_and_unlisted_images_of_celeba_are_counted_in_a_sentence_each(
    trees: Trees, tmp_path: Path, ask: Ask
) -> None:
    root = tmp_path / "celeba"
    shutil.copytree(trees("celeba"), root)
    folder = root / "Img/img_align_celeba"
    for number in (2, 3, 5, 7, 10):
        removed(folder / f"{number:06d}.jpg")
    for number in (98, 99):
        (folder / f"{number:06d}.jpg").write_bytes(jpeg((1, 2, 3)))
    code, out = ask("check", "celeba", "--data-root", tmp_path)
    assert code == 1 and "1 error:" in out
    assert (
        f"\n{folder}/000002.jpg: expected a file, found none, though the lists name it (4 more are missing: "
        "000003.jpg, 000005.jpg, 000007.jpg, ...); unpack" in out
    )
    assert f"\n{folder}: 2 images that no list names (000098.jpg, 000099.jpg); runs ignore them.\n" in out
    assert re.search(r"\nimages +202,599 +5 +differs", out)


def test_check_reads_the_parquet_form_row_by_row(tmp_path: Path, ask: Ask) -> None:
    write_parquet(tmp_path / "nyuv2")
    code, out = ask("check", "nyuv2", "--data-root", tmp_path)
    assert code == 0 and re.search(r"train: images +795 +15 +differs", out) and "wrong" not in out
    assert re.search(r"height / width +288 / 384 +4 / 6 +differs", out)
    file = next((tmp_path / "nyuv2" / "data").glob("val-00001*"))
    cut(file)
    code, out = ask("check", "nyuv2", "--data-root", tmp_path)
    assert code == 1 and "1 error:" in out and f"\n{file}: expected a readable parquet file, found" in out
    for part in (tmp_path / "nyuv2" / "data").glob("val-*"):
        removed(part)
    code, out = ask("check", "nyuv2", "--data-root", tmp_path)
    assert code == 1 and "nyuv2: expected files val-*.parquet or files test-*.parquet beside the training part" in out


def with_images(file: Path, images: dict[int, bytes | None]) -> None:
    """Other contents for some images of a parquet file; the file's metadata stay."""
    table = pyarrow.parquet.read_table(file)
    cells = table["image"].to_pylist()
    for row, content in images.items():
        cells[row]["bytes"] = content
    column = table.schema.get_field_index("image")
    table = table.set_column(
        column, table.schema.field(column), pyarrow.array(cells, type=table.schema.field(column).type)
    )
    pyarrow.parquet.write_table(table, file, row_group_size=7)


def test_check_reads_the_images_in_parquet_files(trees: Trees, tmp_path: Path, ask: Ask) -> None:
    home, faces = tmp_path / "officehome", tmp_path / "celeba"
    write_office_parquet(home, trees("officehome"), "officehome")
    write_celeba_parquet(faces, trees("celeba"), "valid", -1)
    code, out = ask("check", "officehome", "--data-root", tmp_path)
    count = sum(files_of(domain, label) for domain in range(4) for label in range(65))
    assert code == 0 and re.search(rf"images: all {count:,} rows read +readable images +7×9×3 +ok", out)
    moving = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (100 * number, 0, 0)) for number in range(2)]
    frames[0].save(moving, "PNG", save_all=True, append_images=frames[1:])
    wrong = {4: jpeg((1, 2, 3))[:300], 9: b"", 10: None, 20: moving.getvalue()}
    home_file, faces_file = home / "data/train-00001-of-00002.parquet", faces / "train-00000-of-00001.parquet"
    with_images(home_file, wrong)
    with_images(faces_file, {2: b""})
    # Groups of rows are read at once, so any of the first may be named.
    with pytest.raises(
        DataError, match=rf"{re.escape(str(home_file))}, row (4|9|10), image: expected a readable image"
    ):
        DATASETS["officehome"].read(home, SETTINGS)
    code, out = ask("check", "officehome", "--data-root", tmp_path)
    assert code == 1 and "3 errors: fix before any run." in out
    for row in (4, 9, 10):
        assert f"\n{home_file}, row {row}, image: expected a readable image, found" in out
    assert f"\n{home_file}, row 20, image: 2 frames, of which the first is read.\n" in out
    code, out = ask("check", "celeba", "--data-root", tmp_path)
    assert code == 1 and f"\n{faces_file}, row 2, image: expected a readable image, found a file of 0 bytes" in out
    cut(faces_file)
    code, out = ask("check", "celeba", "--data-root", tmp_path)
    assert code == 1 and "1 error:" in out and f"\n{faces_file}: expected a readable parquet file, found" in out
    assert "test: all 2 rows read" in out


def test_normals_of_other_lengths_are_odd_but_usable(trees: Trees, tmp_path: Path, ask: Ask) -> None:
    root = placed(trees, "nyuv2", tmp_path, "train/normal")
    file = root / "train/normal/1.npy"
    np.save(file, 0.8 * np.load(file))
    code, out = ask("check", "nyuv2", "--data-root", tmp_path)
    assert code == 0 and f"\n{file}: 100% of the normals are not of length 1." in out


def test_a_sample_of_many_files_is_read_unless_all_are_asked_for(
    trees: Trees, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "celeba"
    shutil.copytree(trees("celeba"), root)
    monkeypatch.setattr(data_check, "FULL_UP_TO", len(PARTS) - 1)
    monkeypatch.setattr(data_check, "SAMPLE", 3)
    paths = [root / f"Img/img_align_celeba/{index + 1:06d}.jpg" for index, part in enumerate(PARTS) if part == 0]
    sample = [paths[index] for index in sampled(len(paths), 0, full=False)]
    assert len(paths) == 5 and len(set(sample)) == 3 and set(sample) < set(paths)
    assert sample == sorted(sample) and sampled(len(paths), 0, full=True).tolist() == list(range(5))
    rest = "the sample of 8 of 10 files; --full reads every one."
    cut(next(path for path in paths if path not in sample))
    code, out = ask("check", "celeba", "--data-root", tmp_path)
    assert code == 0 and "train: 3 of 5 files read" in out and out.endswith(f"numbers. This holds for {rest}\n")
    same = {"images": (10,), "train / validation / test": (5, 3, 2)}
    monkeypatch.setitem(DATASETS, "celeba", replace(DATASETS["celeba"], published=same))  # type: ignore[arg-type]
    code, out = ask("check", "celeba", "--data-root", tmp_path)
    assert code == 0 and out.endswith(f"\nNo errors in {rest}\n")
    code, out = ask("check", "celeba", "--full", "--data-root", tmp_path)
    assert code == 1 and out.endswith("\n1 error: fix before any run.\n")
    cut(sample[0])
    code, out = ask("check", "celeba", "--data-root", tmp_path)
    assert code == 1 and out.endswith(f"\n1 error: fix before any run. This holds for {rest}\n")


def test_up_to_fifty_thousand_files_are_all_read(trees: Trees, tmp_path: Path, ask: Ask) -> None:
    root = tmp_path / "digits"
    files = data_check.FULL_UP_TO
    assert files == 50_000
    write_digits(tmp_path)
    last = sorted(root.rglob("*.png"))[-1]
    enough, more = (
        Inventory({}, [FileGroup("digits", FileRows([last] * count, lambda path: np.ones(1)), "")])
        for count in (files, files + 1)
    )
    assert data_check.check(enough, {}, full=False).conclusion == "No errors."
    assert "in the sample of 64 of 50,001 files" in data_check.check(more, {}, full=False).conclusion
    cut(last)
    code, out = ask("check", "digits", "--data-root", tmp_path)
    assert code == 1 and f"\n{last}: expected a readable image, found" in out


def test_the_size_of_an_empty_image_is_named(trees: Trees, tmp_path: Path, ask: Ask) -> None:
    root = placed(trees, "celeba", tmp_path, "Img/img_align_celeba")
    file = root / "Img/img_align_celeba/000003.jpg"
    file.write_bytes(b"")
    code, out = ask("check", "celeba", "--data-root", tmp_path)
    line = next(line for line in out.splitlines() if line.startswith(str(file)))
    assert code == 1 and "expected a readable image" in line and "0 bytes" in line


def test_depths_that_may_be_scaled_are_remarked(trees: Trees, tmp_path: Path, ask: Ask) -> None:
    root = placed(trees, "nyuv2", tmp_path, "val/depth")
    file = root / "val/depth/3.npy"
    np.save(file, np.load(file) / 10)
    code, out = ask("check", "nyuv2", "--data-root", tmp_path)
    assert code == 0 and f"\n{root}/val/depth/0.npy and 1 more of val/depth: no depth is above 1 m, as if scaled" in out


def test_files_that_are_no_scenes_are_ignored_and_remarked(trees: Trees, tmp_path: Path, ask: Ask) -> None:
    root = placed(trees, "nyuv2", tmp_path, "train/image")
    for name in ("mean.npy", "3 (1).npy"):
        np.save(root / "train/image" / name, np.ones(3))
    code, out = ask("check", "nyuv2", "--data-root", tmp_path)
    names = "3 (1).npy, mean.npy"
    assert code == 0 and f"\n{root}/train/image: files whose names are no numbers ({names}); runs ignore them.\n" in out
    assert same(read("nyuv2", root), read("nyuv2", trees("nyuv2")))


def unusual_images(folder: Path) -> dict[str, str]:
    """Images of a class, and what is unusual about them."""
    colours = Image.new("RGB", (8, 8), (10, 20, 30))
    written = {
        "alpha.png": (colours.convert("RGBA"), "an alpha channel, which is dropped"),
        "print.jpg": (colours.convert("CMYK"), "four colours of print (CMYK), converted without their colour profile"),
        "palette.png": (colours.convert("P"), "a palette of at most 256 colours"),
        "deep.png": (Image.new("I;16", (8, 8), 1000), "16 or more bits per pixel; values above 255 become white"),
        "grey.jpg": (colours.convert("L"), ""),
    }
    for name, (image, _) in written.items():
        image.save(folder / name)
    frames = [Image.new("RGB", (8, 8), (100 * number, 0, 0)) for number in range(3)]
    frames[0].save(folder / "moving.png", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "broken.jpg", format="GIF", save_all=True, append_images=frames[1:])
    content = (folder / "broken.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(content[: content.rindex(b",") + 1])  # in the last frame
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    colours.save(folder / "turned.jpg", exif=turned)
    return {
        **{name: oddness for name, (_, oddness) in written.items()},
        "broken.jpg": "a palette of at most 256 colours; damaged frames, of which the first is read",
        "turned.jpg": "an EXIF orientation, which is ignored",
        "moving.png": "3 frames, of which the first is read",
    }


def test_unusual_images_are_remarked(tmp_path: Path, ask: Ask) -> None:
    folder = write_digits(tmp_path) / "plain/images/3"
    expected = unusual_images(folder)
    shutil.copy(folder / "alpha.png", folder / "beta.png")
    (folder / "drawing.svg").write_text("<svg/>")
    code, out = ask("check", "digits", "--data-root", tmp_path)
    assert code == 0 and "grey.jpg" not in out
    for name, oddness in expected.items():
        others = " and 1 more of plain" if name == "alpha.png" else ""
        assert not oddness or f"\n{folder / name}{others}: {oddness}.\n" in out
    assert f"\n{folder}/drawing.svg: no image by name; runs ignore what has another ending.\n" in out
    assert len(re.findall(r"\d unusual +ok", out)) == 1


def test_scenes_of_another_size_differ_and_are_usable(trees: Trees, tmp_path: Path, ask: Ask) -> None:
    root = placed(trees, "nyuv2", tmp_path, "train")
    (root / "val").unlink()
    view(trees("nyuv2") / "val", root / "val")
    for part in ("train", "val"):
        scaled(2, 2)(root / part)
    code, out = ask("check", "nyuv2", "--data-root", tmp_path)
    assert code == 0 and f"\n{root}: arrays will be resized from 8×12 to 4×6.\n" in out
    assert re.search(r"height / width +288 / 384 +8 / 12 +differs", out) and "Usable, but not as published" in out
    code, out = ask("check", "nyuv2", "--data-root", tmp_path, "--image-size", "8", "12")
    assert code == 0 and "resized" not in out
    code, out = ask("check", "nyuv2", "--data-root", tmp_path, "--image-size", "8", "8")
    assert code == 1 and f"\n{root}: expected height and width in the ratio of 8 to 8, found 8×12; crop" in out


def test_lists_that_a_data_set_does_not_use_are_refused(trees: Trees, tmp_path: Path, ask: Ask) -> None:
    placed(trees, "celeba", tmp_path)
    code, out = ask("check", "celeba", "--splits", tmp_path, "--data-root", tmp_path)
    assert code == 2 and "data.splits: expected '' for data sets of the CelebA kind" in out


def test_absent_and_unknown_data_end_with_2(tmp_path: Path, ask: Ask) -> None:
    for command in ("check", "show"):
        code, out = ask(command, "celeba", "--data-root", tmp_path)
        assert code == 2 and out.startswith("celeba: expected a folder celeba") and out.count("\n") == 1
        code, out = ask(command, "celebb", "--data-root", tmp_path)
        assert code == 2 and "Did you mean 'celeba'?" in out


def test_a_data_set_without_an_inventory_is_read(
    trees: Trees, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "office31", replace(DATASETS["office31"], inventory=None))  # type: ignore[arg-type]
    root = placed(trees, "office31", tmp_path, "dslr/images/TV")
    code, out = ask("check", "office31", "--data-root", tmp_path)
    assert (
        code == 0
        and "All files can be read." in out
        and "{" not in out
        and re.search(r"train +amazon [\d,]+, dslr \d+", out)
    )
    cut(root / "dslr/images/TV/frame_0000.jpg")
    code, out = ask("check", "office31", "--data-root", tmp_path)
    assert code == 1 and "dslr/images/TV/frame_0000.jpg: expected a readable image" in out


def sheet(path: Path) -> NDArray[np.uint8]:
    """The picture, which must be of a size to look at on a screen."""
    with Image.open(path) as image:
        assert image.format == "PNG" and 600 <= image.width <= 2400 and 400 <= image.height <= 2400
        return np.asarray(image.convert("RGB"))


def share_of(colour: tuple[int, ...], picture: NDArray[np.uint8], tolerance: int = 2) -> float:
    return float(np.mean((np.abs(picture.astype(int) - colour) <= tolerance).all(axis=-1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDED)
def test_show_draws_the_embedded_data(name: str, data_root: Path, tmp_path: Path, ask: Ask) -> None:
    pictures = []
    # The options are the same for all data sets, and drawing takes long.
    for options in ([], ["--seed", "1", "--part", "test"])[: 2 if name == "rooms" else 1]:
        path = tmp_path / f"{len(pictures)}.png"
        code, out = ask("show", name, "--out", path, *options, "--data-root", data_root)
        assert code == 0 and out == f"Drawn: {path}\n"
        pictures.append(sheet(path))
    first = pictures[0]
    assert np.mean(first != 255) > 0.3  # more than frames and text
    for other in pictures[1:]:
        assert first.shape != other.shape or np.mean(first != other) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["office31", "officehome", "celeba"])
def test_show_draws_what_is_in_the_files(
    name: str, trees: Trees, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed(trees, name, tmp_path)
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], image_size=(32, 32)))  # type: ignore[arg-type]
    code, _ = ask("show", name, "--out", tmp_path / "deep" / "sheet.png", "--data-root", tmp_path)
    picture = sheet(tmp_path / "deep" / "sheet.png")
    assert code == 0
    if name == "celeba":  # the five images of the training part
        for index in (0, 1, 4, 6, 8):
            assert share_of((20 + 20 * index, 220 - 20 * index, 100), picture, tolerance=3) > 0.02
    else:  # a row for every domain, which has its own amount of red
        for domain in range(len(DATASETS[name].tasks)):
            rows = np.abs(picture[..., 0].astype(int) - (20 + 50 * domain)) <= 2
            coloured = rows & (picture.max(axis=-1).astype(int) - picture.min(axis=-1) > 20)
            assert coloured.mean() > 0.05


def test_show_draws_scenes_with_all_that_belongs_to_them(
    tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "nyuv2", replace(DATASETS["nyuv2"], image_size=(288, 384)))  # type: ignore[arg-type]
    for part, count in {"train": 5, "val": 2}.items():
        for index in range(count):
            for kind, array in scene(index).items():
                (tmp_path / "nyuv2" / part / kind).mkdir(parents=True, exist_ok=True)
                large = array.astype(np.float32).repeat(72, axis=0).repeat(64, axis=1)  # 288×384
                np.save(tmp_path / "nyuv2" / part / kind / f"{index}.npy", large)
    code, _ = ask("show", "nyuv2", "--part", "test", "--out", tmp_path / "sheet.png", "--data-root", tmp_path)
    picture = sheet(tmp_path / "sheet.png")
    assert code == 0 and len(set(SEGMENT_COLOURS)) == 13
    for colour in SEGMENT_COLOURS:  # of the legend; the first two are also those of the scenes' labels
        assert share_of(tuple(round(255 * part) for part in to_rgb(colour)), picture) > 0.0002
    assert share_of((243, 195, 0), picture) > 0.03 and share_of((135, 86, 146), picture) > 0.03
    assert share_of((0, 3, 200), picture) > 0.03 and share_of((10, 3, 200), picture) > 0.03  # the images
    # Normals along x that point right, and along -y; zero stands for the middle of a channel.
    assert share_of((255, 128, 128), picture, 1) > 0.03 and share_of((128, 0, 128), picture, 1) > 0.03


def test_the_listing_shows_what_is_decoded(trees: Trees, tmp_path: Path, ask: Ask) -> None:
    root = placed(trees, "celeba", tmp_path)

    def line() -> str:
        return next(line for line in ask("list", "--data-root", tmp_path)[1].splitlines() if line.startswith("celeba"))

    assert " no " in line() and str(find("celeba", tmp_path)) in line() and root == find("celeba", tmp_path)
    assert ask("show", "celeba", "--out", tmp_path / "sheet.png", "--data-root", tmp_path)[0] == 0
    assert re.search(r" \d+ MB ", line())


@pytest.mark.parametrize("name", REAL)
def test_how_says_where_the_files_are_and_how_to_tell_them(name: str, tmp_path: Path, ask: Ask) -> None:
    info = DATASETS[name]
    folder = tmp_path / info.folder[0]
    code, out = ask("how", name, "--data-root", tmp_path)
    assert code == 0 and info.origin is not None
    assert info.origin.page in out and str(folder) in out and PUBLISHED[name] in out and info.source in out
    for file in info.origin.files:
        assert file.name in out and all(digits in out for _, digits in file.checksums)
        assert not file.size or f"{file.size:,} bytes" in out
        for algorithm, digits in file.checksums:
            assert re.fullmatch(rf"[0-9a-f]{{{2 * hashlib.new(algorithm).digest_size}}}", digits)
    assert all(layout in out for layout in info.origin.layouts)


def test_how_gives_a_command_that_unpacks_what_was_downloaded(tmp_path: Path, ask: Ask, trees: Trees) -> None:
    root = tmp_path / "my data"
    (root / "officehome").mkdir(parents=True)
    with zipfile.ZipFile(root / "officehome/OfficeHomeDataset_10072016.zip", "w") as archive:
        for path in trees("officehome").glob("*/*/*.jpg"):
            archive.write(path, Path("OfficeHomeDataset_10072016") / path.relative_to(trees("officehome")))
    _, out = ask("how", "officehome", "--data-root", root)
    command = next(line.removeprefix("Unpack").strip() for line in out.splitlines() if line.startswith("Unpack"))
    subprocess.run(command, shell=True, check=True)
    assert find("officehome", root) == root / "officehome/OfficeHomeDataset_10072016"


def test_how_of_a_made_data_set(tmp_path: Path, ask: Ask) -> None:
    code, out = ask("how", "rooms", "--data-root", tmp_path)
    assert code == 0 and DATASETS["rooms"].how in out and str(tmp_path / "rooms") in out

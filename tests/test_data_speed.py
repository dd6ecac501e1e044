"""The benchmark of reading: its contestants see the same images, and its tables show every turn."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from bench import speed
from bench.engine.batches import gather
from bench.profiling import data as data_speed
from bench.profiling.data import ARRAYS, IMAGE_FOLDER, ONE_WORKER, SIZE, TWO_WORKERS, Turn, write_photos
from bench.profiling.data_table import cells
from datasets import DATASETS
from datasets.contract import Source
from datasets.pixels import decoded, image_loader

CPU = torch.device("cpu")


def test_arrays_and_image_folder_give_the_same_pixels(tmp_path: Path) -> None:
    photos, info = write_photos(tmp_path, 8), DATASETS["officehome"]
    folder = ImageFolder(str(tmp_path / "photos"), Compose([Resize(SIZE), ToTensor(), Normalize(info.mean, info.std)]))
    images = decoded(photos.root, photos.paths, image_loader(SIZE), "test")
    group = gather(Source(images, {0: torch.tensor(photos.labels)}), torch.arange(8), info, CPU)
    theirs, labels = zip(*folder, strict=True)
    torch.testing.assert_close(group.inputs, torch.stack(theirs), atol=1e-5, rtol=1e-5)
    assert group.targets[0].tolist() == list(labels)
    assert all(10_000 < path.stat().st_size < 60_000 for path in photos.paths)


def test_ratios_are_taken_within_a_round() -> None:
    turns = [
        Turn("batches", name, index, images, seconds)
        for index, slowness in enumerate((1, 2, 4))
        for name, images, seconds in ((ARRAYS, 600, 0.5 * slowness), (IMAGE_FOLDER, 100, 1.0 * slowness))
    ]
    assert cells(turns) == [
        (ARRAYS, "600 (450 – 900)", "12.00 (12.00 – 12.00)"),
        (IMAGE_FOLDER, "50 (38 – 75)", "--"),
    ]


def test_the_command_times_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_speed, "_COPIES", 1)
    monkeypatch.setattr(data_speed, "_PASSES", 2)
    command = ["data", "--images", "72", "--rounds", "2", "--device", "cpu", "--threads", "1", "--out", str(tmp_path)]
    assert speed.main(command) == 0
    printed, written = capsys.readouterr().out, (tmp_path / "data.md").read_text(encoding="utf-8")
    for name in (ARRAYS, IMAGE_FOLDER, ONE_WORKER, TWO_WORKERS):
        assert name in printed and f"| {name} |" in written
    with (tmp_path / "data.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Full batches of 64 only; all files where they are decoded.
    assert sorted((row["contestant"], row["images"]) for row in rows) == sorted(
        2 * [(ARRAYS, "128"), (IMAGE_FOLDER, "64"), (ONE_WORKER, "72"), (TWO_WORKERS, "72")]
    )
    assert all(float(row["seconds"]) > 0 for row in rows)

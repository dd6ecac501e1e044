"""The benchmark of reading: all candidates read the same images, and the files have every sample."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from bench import speed
from bench.engine.gathering import gather_on_cpu
from bench.profiling import data as data_speed
from bench.profiling import harness
from bench.profiling.data import ARRAYS, IMAGE_FOLDER, ONE_WORKER, PILLOW, SIZE, TWO_WORKERS, labels, write_photos
from bench.profiling.harness import Result, Sample
from bench.profiling.tables import samples_table
from datasets import DATASETS
from datasets.contract import Source
from datasets.pixels import decoded, image_loader


def test_arrays_and_image_folder_give_the_same_pixels(tmp_path: Path) -> None:
    paths, info = write_photos(tmp_path, 8), DATASETS["officehome"]
    folder = ImageFolder(str(tmp_path / "photos"), Compose([Resize(SIZE), ToTensor(), Normalize(info.mean, info.std)]))
    images = decoded(tmp_path, paths, image_loader(SIZE), "test").values
    group = gather_on_cpu(Source(images, {0: labels(paths)}), torch.arange(8), info)
    theirs, targets = zip(*folder, strict=True)
    torch.testing.assert_close(group.inputs, torch.stack(theirs), atol=1e-5, rtol=1e-5)
    assert group.targets[0].tolist() == list(targets)
    assert all(10_000 < path.stat().st_size < 60_000 for path in paths)


def test_ratios_are_taken_within_a_round() -> None:
    slowness = (1, 2, 4)
    arrays = Result("JPEGs", ARRAYS, tuple(Sample(0.5 * factor, images=600) for factor in slowness))
    folder = Result("JPEGs", IMAGE_FOLDER, tuple(Sample(1.0 * factor, images=100) for factor in slowness))
    table = samples_table("batches", [folder, arrays])
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        [IMAGE_FOLDER, "50 (38 – 75)", "1.00 (1.00 – 1.00)"],
        [ARRAYS, "600 (450 – 900)", "12.00 (12.00 – 12.00)"],
    ]


def test_the_command_times_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_speed, "_COPIES", 1)
    monkeypatch.setattr(data_speed, "_EPOCHS", 2)
    monkeypatch.setattr(data_speed, "BATCH", 8)
    command = ["data", "--images", "12", "--rounds", "1", "--device", "cpu", "--threads", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(harness, "_MOST_CALLS", 1)
    assert speed.main(command) == 0
    printed, written = capsys.readouterr().out, (tmp_path / "data.md").read_text(encoding="utf-8")
    for name in (ARRAYS, IMAGE_FOLDER, PILLOW, ONE_WORKER, TWO_WORKERS):
        assert name in printed and f" {name} |" in written
    with (tmp_path / "data.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Full batches of 8 only; all files if they are decoded.
    assert sorted((row["candidate"], row["images"]) for row in rows) == sorted(
        [(ARRAYS, "16"), (IMAGE_FOLDER, "8"), (PILLOW, "12"), (ONE_WORKER, "12"), (TWO_WORKERS, "12")]
    )
    assert all(float(row["seconds"]) > 0 for row in rows)

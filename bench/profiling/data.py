"""How fast images come: batches from prepared arrays beside torchvision's ImageFolder, and preparation by workers.

Contestants take turns in the same rounds of one process, in random order. Machines are noisy, so what counts are ratios
within a round. All read the same generated JPEGs.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from bench import ROOT
from bench.engine.batches import on_device, training_batches
from bench.engine.device import chip_name, synchronise
from bench.records.environment import describe_environment
from datasets import DATASETS
from datasets.contract import Source, Splits
from datasets.decoding.prepare import Preparation, preparing
from datasets.pixels import CACHE, decoded, image_loader

SIZE = (224, 224)
BATCH = 64
LOADER_WORKERS = 2
CLASSES = 4
ARRAYS, IMAGE_FOLDER = "prepared arrays", f"ImageFolder, {LOADER_WORKERS} workers"
ONE_WORKER, TWO_WORKERS = "one worker", "two workers"
# Its normalisation is what a network with ImageNet weights gets.
_INFO = DATASETS["officehome"]
# A pass over prepared images is too short to time; and one over few files has much of its time in starting workers.
_PASSES, _COPIES = 20, 8
_SIDES = (260, 341)


@dataclass(frozen=True)
class Turn:
    """How long a contestant took for so many images; seconds of wall time."""

    question: str
    contestant: str
    round: int
    images: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


@dataclass(frozen=True)
class _Photos:
    """A tree photos/<class>/<image>.jpg under a root, and its files in the order of their names."""

    root: Path
    paths: tuple[Path, ...]
    labels: tuple[int, ...]


def measure(images: int, rounds: int, device: torch.device) -> list[Turn]:
    """The turns of all contestants on so many JPEGs, made in a temporary folder; a first round doesn't count."""
    with TemporaryDirectory() as folder:
        photos = write_photos(Path(folder), images)
        # One after the other, so that the workers of a DataLoader are gone before others are timed.
        turns = _race("batches", _batches(photos, device), rounds)
        return turns + _race("preparation", _preparation(photos), rounds)


def write_photos(root: Path, count: int) -> _Photos:
    """JPEGs of about 300×300 and 30 kB, like photographs: soft shapes and noise, some higher and some wider."""
    draw = np.random.default_rng(0)
    labels = tuple(index * CLASSES // count for index in range(count))
    paths = tuple(root / "photos" / f"class_{label}" / f"{index:04d}.jpg" for index, label in enumerate(labels))
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = draw.integers(*_SIDES, size=2).tolist()
        shapes = Image.fromarray(draw.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        soft = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = soft + draw.normal(0, 8, soft.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return _Photos(root, paths, labels)


def _race(question: str, contestants: Mapping[str, Callable[[], int]], rounds: int) -> list[Turn]:
    order, turns = random.Random(0), []
    for index in range(-1, rounds):
        for name in order.sample(list(contestants), len(contestants)):
            start = time.perf_counter()
            images = contestants[name]()
            seconds = time.perf_counter() - start
            if index >= 0:
                turns.append(Turn(question, name, index, images, seconds))
    return turns


def _batches(photos: _Photos, device: torch.device) -> Mapping[str, Callable[[], int]]:
    """Ways to see every image once as (B, 3, 224, 224) on the device, shuffled; they give the number of images."""
    images = decoded(photos.root, photos.paths, image_loader(SIZE), "speed")
    source = Source(images, {0: torch.tensor(photos.labels)})
    splits = on_device(Splits((source,), (), (), {}), device)
    order = torch.Generator().manual_seed(0)
    transform = Compose([Resize(SIZE), ToTensor(), Normalize(_INFO.mean, _INFO.std)])
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        ImageFolder(str(photos.root / "photos"), transform),
        BATCH,
        shuffle=True,
        num_workers=LOADER_WORKERS,
        persistent_workers=True,
        pin_memory=device.type != "cpu",
        drop_last=True,
    )

    def arrays() -> int:
        seen = 0
        for _ in range(_PASSES):
            for (group,) in training_batches(splits.train, _INFO, BATCH, order, device):
                seen += len(group.inputs)
        synchronise(device)
        return seen

    def image_folder() -> int:
        seen = 0
        for inputs, labels in loader:
            seen += len(inputs.to(device, non_blocking=True))
            labels.to(device, non_blocking=True)
        synchronise(device)
        return seen

    return {ARRAYS: arrays, IMAGE_FOLDER: image_folder}


def _preparation(photos: _Photos) -> Mapping[str, Callable[[], int]]:
    paths = photos.paths * _COPIES

    def prepare(workers: int) -> int:
        shutil.rmtree(photos.root / CACHE)
        with preparing(Preparation(workers)):
            return len(decoded(photos.root, paths, image_loader(SIZE), "speed"))

    return {ONE_WORKER: lambda: prepare(1), TWO_WORKERS: lambda: prepare(2)}


def circumstances(images: int, rounds: int, device: torch.device) -> str:
    """One line on what was measured where."""
    environment = describe_environment(ROOT)
    return (
        f"{images} JPEGs of about 300×300, batches of {BATCH}, {rounds} rounds; {device.type} ({chip_name(device)}), "
        f"threads of the arrays' batches: {torch.get_num_threads()}, torch {environment['torch']}."
    )

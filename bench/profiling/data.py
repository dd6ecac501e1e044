"""How fast images are read from prepared arrays and by torchvision's ImageFolder, and how fast they are prepared.

All candidates read the same JPEGs, which are generated.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from bench.engine.batches import training_batches
from bench.engine.placement import on_device
from bench.profiling.harness import Candidate, Result, Sample, now, run_benchmark
from datasets import DATASETS
from datasets.contract import Source, Splits
from datasets.decoding.prepare import Preparation, preparing
from datasets.pixels import CACHE, decoded, image_loader

SIZE = (224, 224)
BATCH = 64
LOADER_WORKERS = 2
CLASSES = 4
ARRAYS, IMAGE_FOLDER = "prepared arrays", f"ImageFolder, {LOADER_WORKERS} workers"
PILLOW, ONE_WORKER, TWO_WORKERS = "a loop of Pillow, stored nowhere", "one worker", "two workers"
# For its normalisation, that of networks with ImageNet weights.
_INFO = DATASETS["officehome"]
# An epoch of prepared arrays is too short to time, so a sample takes this many.
_EPOCHS = 20
# Each file is decoded this often; with fewer files, much of the time would be spent on starting workers.
_COPIES = 8
# Least and greatest side of an image, in pixels.
_SIDES = (260, 341)

# Reads images and returns how many.
Reader = Callable[[], int]


def measure(images: int, rounds: int, device: torch.device) -> dict[str, list[Result]]:
    """The results of both benchmarks, by key, on this many JPEGs in a temporary folder."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        paths = write_photos(root, images)
        # One benchmark after the other, so that the workers of the DataLoader have ended before the second.
        batches = _measure(_batches(root, paths, device), rounds, device)
        return {"batches": batches, "preparation": _measure(_preparation(root, paths), rounds, device)}


def _measure(readers: Mapping[str, Reader], rounds: int, device: torch.device) -> list[Result]:
    def call(read: Reader) -> Sample:
        start = now(device)
        images = read()
        return Sample(now(device) - start, images=images)

    return run_benchmark([Candidate("JPEGs", name, partial(call, read)) for name, read in readers.items()], rounds)


def write_photos(root: Path, count: int) -> list[Path]:
    """Paths of new files photos/class_<label>/<image>.jpg: soft shapes and noise, about 300×300 and 30 kB."""
    draw = np.random.default_rng(0)
    paths = [root / "photos" / f"class_{index * CLASSES // count}" / f"{index:04d}.jpg" for index in range(count)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = draw.integers(*_SIDES, size=2).tolist()
        shapes = Image.fromarray(draw.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        soft = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = soft + draw.normal(0, 8, soft.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return paths


def labels(paths: Sequence[Path]) -> Tensor:
    """(n,) class indices."""
    return torch.tensor([int(path.parent.name.removeprefix("class_")) for path in paths])


def _batches(root: Path, paths: Sequence[Path], device: torch.device) -> Mapping[str, Reader]:
    """Readers that put every image on the device, in shuffled batches (B, 3, 224, 224)."""
    images = decoded(root, paths, image_loader(SIZE), "speed").values
    source = Source(images, {0: labels(paths)})
    splits = on_device(Splits((source,), (), (), {}), device)
    order = torch.Generator().manual_seed(0)
    transform = Compose([Resize(SIZE), ToTensor(), Normalize(_INFO.mean, _INFO.std)])
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        ImageFolder(str(root / "photos"), transform),
        BATCH,
        shuffle=True,
        num_workers=LOADER_WORKERS,
        persistent_workers=True,
        pin_memory=device.type != "cpu",
        drop_last=True,
    )

    def arrays() -> int:
        epochs = (training_batches(splits.train, _INFO, BATCH, order, device) for _ in range(_EPOCHS))
        return sum(len(group.inputs) for epoch in epochs for (group,) in epoch)

    def image_folder() -> int:
        seen = 0
        for inputs, targets in loader:
            seen += len(inputs.to(device, non_blocking=True))
            targets.to(device, non_blocking=True)
        return seen

    return {IMAGE_FOLDER: image_folder, ARRAYS: arrays}


def _preparation(root: Path, paths: Sequence[Path]) -> Mapping[str, Reader]:
    """Readers that decode every file into a new array, as before a first run; and the least that this could take."""
    files = [*paths] * _COPIES

    def loop() -> int:
        for path in files:
            with Image.open(path) as image:
                np.asarray(image.convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR))
        return len(files)

    def prepare(workers: int) -> int:
        shutil.rmtree(root / CACHE)
        with preparing(Preparation(workers)):
            return len(decoded(root, files, image_loader(SIZE), "speed").values)

    return {PILLOW: loop, ONE_WORKER: partial(prepare, 1), TWO_WORKERS: partial(prepare, 2)}

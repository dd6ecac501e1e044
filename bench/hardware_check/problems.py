"""The runs whose steps are checked, and their data on the CPU and on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.engine.batches import training_batches
from bench.engine.placement import on_device
from bench.engine.seeds import generator_for
from bench.spec.resolve import RunSpec, resolve
from datasets import DATASETS, obtain
from datasets.contract import Batch, Splits
from datasets.decoding.prepare import Preparation, preparing
from methods import WEIGHTINGS
from methods.contract import batches_of

EMBEDDED = ("digits", "rooms", "faces")
ARCHITECTURES = ("hps", "normal")
# Our own weightings, without those of other packages.
OURS = tuple(name for name in WEIGHTINGS if ":" not in name)
# Images of a step, of each input: few, so that the CPU is quick.
BATCH_SIZE = 4


@dataclass(frozen=True)
class Places:
    """Where data comes from: the data root, and the folder of decoded arrays (None for the default)."""

    data_root: Path
    cache: Path | None = None


@dataclass(frozen=True)
class Problem:
    """A data set on the CPU and, as far as it fits, on the device."""

    data: str
    on_cpu: Splits
    on_device: Splits
    device: torch.device

    def batches(self, spec: RunSpec, device: torch.device) -> Iterator[tuple[Batch, ...]]:
        """The batches of each step of an epoch, on this problem's device or on the CPU."""
        split = (self.on_device if device == self.device else self.on_cpu).train
        train, augment = spec.settings.train, spec.settings.data.augment
        streams = [
            training_batches(
                split, spec.info, train.batch_size, generator_for(spec.seed, "batches", stream), device, augment
            )
            for stream in range(batches_of(spec.settings.weighting))
        ]
        return zip(*streams, strict=True)


def read_problem(data: str, places: Places, device: torch.device) -> Problem:
    """Reads a data set; embedded data is made if it isn't there.

    Raises:
        DataError: it can't be made or read.
    """
    folder = obtain(data, places.data_root)
    spec = resolve(data, "ew")
    with preparing(Preparation(cache=places.cache)):
        splits = spec.info.read(folder, spec.data_settings)
    return Problem(data, splits, on_device(splits, device), device)


def spec_of(data: str, weighting: str, architecture: str, **settings: Any) -> RunSpec:
    """A run with small batches.

    Raises:
        UnknownName, SpecError: a name is not known, or the settings don't go together.
    """
    # The weighting "fixed" has no default.
    weights = {"weighting.weights": [1.0] * len(DATASETS[data].tasks)} if weighting == "fixed" else {}
    assignments = {"train.batch_size": BATCH_SIZE, **weights, **settings}
    return resolve(data, architecture=architecture, weighting=weighting, assignments=assignments)

"""A train_state and a batch of real data, ready for a step; data sets are read once per process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.seeds import generator_for
from bench.engine.train_state import TrainState, make_train_state
from bench.spec.resolve import RunSpec, resolve
from datasets import find
from datasets.contract import Batch, DataSettings, Splits

CPU = torch.device("cpu")


def splits_of(spec: RunSpec, data_root: Path) -> Splits:
    """The data of a run. All callers share it, so none may change it."""
    folder = find(spec.data, data_root)
    assert folder is not None
    return _read(spec.info.read, folder, spec.data_settings)


@cache
def _read(reader: Callable[[Path, DataSettings], Splits], folder: Path, settings: DataSettings) -> Splits:
    return reader(folder, settings)


def prepared(
    method: str,
    data_root: Path,
    data: str = "digits",
    arch: str | None = "hps",
    device: torch.device = CPU,
    **settings: object,
) -> tuple[TrainState, Batch]:
    """arch: None for the method's own."""
    weighting = None if arch is None else method
    spec = resolve(
        data, method, architecture=arch, weighting=weighting, assignments={"train.batch_size": 4, **settings}
    )
    splits = splits_of(spec, data_root)
    network = build_network(spec, device)
    batches = training_batches(splits.train, spec.info, 4, generator_for(0, "test"), device)
    return make_train_state(spec, network), next(iter(batches))

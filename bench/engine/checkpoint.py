"""Checkpoints: everything that a run needs to resume as if it had never stopped."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from bench.engine.train_state import TrainState
from bench.records.files import Guard, atomic_write
from bench.records.record import Scores
from bench.records.store import CHECKPOINT, run_folder
from bench.records.upgrade import upgraded_settings
from bench.spec.data_seen import CurrentData, DataKey, changed_parts, compared_later, data_key
from bench.spec.resolve import RunSpec
from bench.spec.versions import versions_of
from methods.contract import State

STARTS_AGAIN = "starts again from the first epoch, since its checkpoint can't be resumed:"


@dataclass
class Best:
    """The epoch (counted from 1) that is best on validation so far, with its network."""

    epoch: int
    score: float
    validation: Scores
    network: dict[str, Any]


@dataclass
class History:
    """The progress of a run.

    epochs, steps: done so far.
    seconds: of training and validation.
    step_seconds: of each timed step.
    curve, positions, cosines: rows of the files of these names.
    evaluations: of a flow's field in training steps, forward and backward.
    last_tests: test scores of the last epochs, for protocols without validation.
    best: the best epoch on validation.
    """

    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    step_seconds: list[float] = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)
    positions: list[list[float]] = field(default_factory=list)
    cosines: list[list[float]] = field(default_factory=list)
    evaluations: tuple[int, int] = (0, 0)
    last_tests: list[Scores] = field(default_factory=list)
    best: Best | None = None


def best_epoch(state: TrainState, epoch: int, score: float, validation: Scores) -> Best:
    """The current epoch as the best one, with a copy of the network."""
    return Best(epoch, score, validation, copy.deepcopy(state.network.state_dict()))


def save_checkpoint(
    path: Path,
    spec: RunSpec,
    device: torch.device,
    state: TrainState,
    history: History,
    fingerprint: Mapping[str, str],
    guard: Guard = nullcontext,
) -> None:
    """Writes the checkpoint atomically. fingerprint: of the data that the run sees. guard: as in `atomic_write`."""
    content = {
        "settings": spec.settings.as_dict(),
        "fingerprint": dict(fingerprint),
        "versions": versions_of(spec),
        "device": device.type,
        "network": state.network.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()},
        "memory": dict(state.weighting_state.memory),
        "kept": dict(state.cached_weights),
        "generator": state.generator.get_state(),
        "solver_fallbacks": state.solver_fallbacks,
        "history": {**vars(history), "best": asdict(history.best) if history.best else None},
    }
    atomic_write(path, lambda temporary: torch.save(content, temporary), guard)


def load_checkpoint(
    path: Path,
    spec: RunSpec,
    device: torch.device,
    state: TrainState,
    fingerprint: Mapping[str, str],
) -> tuple[History, str]:
    """Restores a state from a checkpoint of the same run on the same data.

    Returns its history, or an empty one; and why a checkpoint that is there was not resumed, in words.

    If its settings lack a key that was added later, the value is what the code did when it was written. A checkpoint of
    other versions of the code or of other data is not resumed: the run would mix both. Without versions, it is from
    code that gives the numbers of version 1. A checkpoint in which learned weights have an optimizer of their own isn't
    resumed, either.
    """
    if not path.is_file():
        return History(), ""
    content = _content(path)
    difference = _difference(content, spec, device, fingerprint)
    if content is None or difference:
        return History(), difference
    state.network.load_state_dict(content["network"])
    for name, optimizer in state.optimizers.items():
        optimizer.load_state_dict(content["optimizers"][name])
    state.weighting_state = State(content["memory"])
    state.cached_weights = content.get("kept", {})
    state.generator.set_state(content["generator"])
    state.solver_fallbacks = content["solver_fallbacks"]
    stored = content["history"]
    best = Best(**stored.pop("best")) if stored["best"] else stored.pop("best")
    return History(**stored, best=best), ""


def checkpoint_remarks(
    specs: Sequence[RunSpec], results: Path, current: CurrentData, device: torch.device
) -> list[str]:
    """Which of these runs would start again though they have a checkpoint, and why; and what is not known of them."""
    remarks = []
    unknown: Counter[DataKey] = Counter()
    for spec in specs:
        path, seen = run_folder(results, spec.data, spec.variant, spec.seed) / CHECKPOINT, current.of(spec)
        if not path.is_file():
            continue
        if seen is None:
            unknown[data_key(spec)] += 1
            continue
        difference = _difference(_content(path, mmap=True), spec, device, seen.fingerprint)
        if difference:
            remarks.append(f"{spec.data}/{spec.variant}/seed-{spec.seed}: {STARTS_AGAIN} {difference}.")
    remarks += [
        compared_later(
            current,
            key,
            f"the checkpoint{'s' * (count != 1)} of {count} unfinished run{'s' * (count != 1)} of {key[0]}",
        )
        for key, count in unknown.items()
        if key in current.unprepared
    ]
    return remarks


def _content(path: Path, mmap: bool = False) -> dict[str, Any] | None:
    """What a checkpoint holds; None if the file is damaged."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (RuntimeError, EOFError, UnpicklingError):
        return None
    return content


def _difference(
    content: Mapping[str, Any] | None, spec: RunSpec, device: torch.device, fingerprint: Mapping[str, str]
) -> str:
    """What keeps a checkpoint from being resumed by this run, in words; empty if nothing does."""
    if content is None:
        return "the file is damaged"
    today = versions_of(spec)
    made_on = content.get("device", device.type)
    settings = upgraded_settings(content["settings"], spec.architecture, spec.weighting, made_on)
    if settings != spec.settings.as_dict():
        return "it was made with other settings"
    if content.get("versions", dict.fromkeys(today, 1)) != today or content.get("learned"):
        return "it was made by another version of the code"
    if "fingerprint" not in content:
        return "it doesn't say what data it was made from"
    parts = changed_parts(content["fingerprint"], fingerprint)
    return f"it was made from other data ({', '.join(parts)} changed)" if parts else ""

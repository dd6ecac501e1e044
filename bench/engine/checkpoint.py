"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.engine.train_state import TrainState
from bench.records.record import Scores
from bench.records.store import atomic_write
from methods.contract import State


@dataclass
class Best:
    """The epoch (from 1) that validation has picked so far, with its network."""

    epoch: int
    score: float
    validation: Scores
    network: dict[str, Any]


@dataclass
class History:
    """What has happened so far.

    curve, positions, cosines: rows of the files of these names. seconds: of training. evaluations: of the field of a
    flow in training steps, ahead and back. last_tests: test scores of the last epochs, where there is no validation.
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


def remember_best(train_state: TrainState, epoch: int, score: float, validation: Scores) -> Best:
    """The present network, copied."""
    return Best(epoch, score, validation, copy.deepcopy(train_state.network.state_dict()))


def save_checkpoint(path: Path, settings: dict[str, Any], train_state: TrainState, history: History) -> None:
    """Writes the checkpoint whole or not at all."""
    content = {
        "settings": settings,
        "network": train_state.network.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in train_state.optimizers.items()},
        "learned": {name: tensor.detach() for name, tensor in train_state.weighting_state.learned.items()},
        "memory": dict(train_state.weighting_state.memory),
        "kept": dict(train_state.kept),
        "generator": train_state.generator.get_state(),
        "solver_fallbacks": train_state.solver_fallbacks,
        "history": {**vars(history), "best": asdict(history.best) if history.best else None},
    }
    atomic_write(path, lambda temporary: torch.save(content, temporary))


def load_checkpoint(path: Path, settings: dict[str, Any], train_state: TrainState) -> History:
    """Puts a train_state back to where the checkpoint was taken; a fresh history where none has these settings."""
    if not path.is_file():
        return History()
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content["settings"] != settings:
        return History()
    train_state.network.load_state_dict(content["network"])
    for name, optimizer in train_state.optimizers.items():
        optimizer.load_state_dict(content["optimizers"][name])
    with torch.no_grad():
        for name, tensor in train_state.weighting_state.learned.items():
            tensor.copy_(content["learned"][name])
    train_state.weighting_state = State(train_state.weighting_state.learned, content["memory"])
    train_state.kept = content["kept"]
    train_state.generator.set_state(content["generator"])
    train_state.solver_fallbacks = content["solver_fallbacks"]
    stored = content["history"]
    best = Best(**stored.pop("best")) if stored["best"] else stored.pop("best")
    return History(**stored, best=best)

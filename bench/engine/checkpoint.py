"""Checkpoints: everything that a run needs to resume as if it had never stopped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam
from torch.utils._pytree import tree_map_only

from bench import ROOT
from bench.engine.checkpoint_file import (
    Content,
    DamagedCheckpoint,
    UnusableCheckpoint,
    read_content,
    set_aside,
    write_content,
)
from bench.engine.device import device_name
from bench.engine.history import Best, History, inconsistency, inconsistent_steps, part_of_task
from bench.engine.seeds import require_states
from bench.engine.train_state import TrainState, on_device_of_weighting
from bench.records.again import training_folder
from bench.records.environment import describe_environment
from bench.records.files import Guard, StorageError
from bench.records.plain_text import one_line
from bench.records.store import CHECKPOINT, run_folder, run_name
from bench.records.upgrade import upgraded_settings
from bench.spec.data_seen import CurrentData, DataKey, changed_parts, compared_later, data_key
from bench.spec.resolve import RunSpec
from bench.spec.versions import versions_of

STARTS_AGAIN = "starts again from the first epoch, since its checkpoint can't be resumed:"
# What each optimizer remembers of a parameter. SGD has no momentum here.
_REMEMBERED = {Adam: {"step", "exp_avg", "exp_avg_sq"}, SGD: set[str]()}


@dataclass(frozen=True)
class Origin:
    """What a checkpoint is made from.

    fingerprint: of the data that the run sees.
    threads: that it computes with.
    epoch_steps: steps of an epoch of this data.
    """

    spec: RunSpec
    fingerprint: Mapping[str, str]
    device: torch.device
    threads: int
    epoch_steps: int


@dataclass(frozen=True)
class Start:
    """Where a run starts or goes on. notes: what the user should know, one sentence each."""

    state: TrainState
    history: History
    notes: tuple[str, ...] = ()


def platform_of(device: torch.device, threads: int) -> dict[str, str]:
    """What the last bits of numbers depend on besides the versions of our code."""
    environment = describe_environment(ROOT)
    chosen = {"threads": str(threads), "device": device_name(device)}
    return chosen | {"processor": environment["cpu"], "torch": environment["torch"]}


def save_checkpoint(
    path: Path, origin: Origin, state: TrainState, history: History, guard: Guard = nullcontext
) -> None:
    """Writes the checkpoint atomically. guard: as in `atomic_write`.

    Raises:
        StorageError: the file can't be written.
    """
    content = Content(
        run=run_name(*origin.spec.key),
        settings=origin.spec.settings.as_dict(),
        fingerprint=dict(origin.fingerprint),
        versions=versions_of(origin.spec),
        device=origin.device.type,
        platform=platform_of(origin.device, origin.threads),
        network=_on_cpu(state.network.state_dict()),
        optimizers={name: _on_cpu(optimizer.state_dict()["state"]) for name, optimizer in state.optimizers.items()},
        memory=_on_cpu(dict(state.weighting_state.memory)),
        kept=_on_cpu(dict(state.cached_weights)),
        generator=state.generator.get_state(),
        solver_fallbacks=state.solver_fallbacks,
        history=replace(
            history,
            best=_best_on_cpu(history.best) if history.best else None,
            best_by_task={task: _best_on_cpu(best) for task, best in history.best_by_task.items()},
        ),
    )
    write_content(path, content, guard)


def _on_cpu(tree: Any) -> Any:
    """The same mapping, at any depth, with its tensors on the CPU."""
    return tree_map_only(Tensor, lambda values: values.cpu(), tree)


def _best_on_cpu(best: Best) -> Best:
    return replace(best, network=_on_cpu(best.network))


def start_or_resume(path: Path, origin: Origin, make: Callable[[], TrainState], guard: Guard = nullcontext) -> Start:
    """The state to train on from: that of the checkpoint of the same run on the same data, or else a new one.

    make: makes a new state. guard: as in `atomic_write`.

    A checkpoint that is damaged, or made by another run, from other settings, data or versions of the code, is renamed,
    and the run starts again. If its settings lack a key that was added later, the value is what the code did when it
    was written. Without versions, it is from code that gives the numbers of version 1.

    Raises:
        StorageError: the checkpoint can't be opened or renamed.
    """
    if not os.path.lexists(path):
        return Start(make(), History())
    try:
        content = read_content(path)
        _check_origin(content, origin.spec, origin.device, origin.fingerprint)
        if wrong := inconsistent_steps(content.history, origin.epoch_steps):
            raise DamagedCheckpoint(wrong)
        state = make()
        _restore(content, state)
    except UnusableCheckpoint as error:
        aside = set_aside(path, error.ending, guard)
        # A state that is restored in part is never used.
        return Start(make(), History(), (f"{STARTS_AGAIN} {error}; it is kept as {aside.name}",))
    changes = _changes(content.platform, platform_of(origin.device, origin.threads))
    if not changes:
        return Start(state, content.history)
    partial = content.history.partial
    step = f", step {partial.steps + 1}" if partial else ""
    note = f"from epoch {content.history.epochs + 1}{step} on: {changes}"
    history = replace(content.history, resumed=[*content.history.resumed, note])
    return Start(state, history, (f"is resumed on another platform, {note}",))


def checkpoint_remarks(
    specs: Sequence[RunSpec], results: Path, current: CurrentData, device: torch.device
) -> list[str]:
    """Which of these runs would start again though they have a checkpoint, and why; and what is not known of them."""
    remarks = []
    unknown: Counter[DataKey] = Counter()
    for spec in specs:
        folder = training_folder(run_folder(results, *spec.key))
        path, seen = folder / CHECKPOINT, current.of(spec)
        if not os.path.lexists(path):
            continue
        if seen is None:
            unknown[data_key(spec)] += 1
            continue
        try:
            _check_origin(read_content(path), spec, device, seen.fingerprint)
        except UnusableCheckpoint as error:
            kept = f"it will be kept as {path.name}{error.ending}"
            remarks.append(f"{run_name(*spec.key)}: {STARTS_AGAIN} {error}; {kept}.")
        except StorageError as error:
            remarks.append(str(error))
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


def _check_origin(content: Content, spec: RunSpec, device: torch.device, fingerprint: Mapping[str, str]) -> None:
    """Raises UnusableCheckpoint if it is of another run, or of other settings, versions or data."""
    if content.run not in ("", run_name(*spec.key)):
        raise UnusableCheckpoint(f"it was made by the run {one_line(content.run):.80}")
    today = versions_of(spec)
    made_on = content.device or device.type
    settings = upgraded_settings(content.settings, spec.architecture, spec.weighting, made_on)
    if settings != spec.settings.as_dict():
        raise UnusableCheckpoint("it was made with other settings")
    if (content.versions or dict.fromkeys(today, 1)) != today:
        raise UnusableCheckpoint("it was made by another version of the code")
    if not content.fingerprint:
        raise UnusableCheckpoint("it doesn't say what data it was made from")
    parts = changed_parts(content.fingerprint, fingerprint)
    if parts:
        raise UnusableCheckpoint(f"it was made from other data ({', '.join(parts)} changed)")
    wrong = inconsistency(content.history, spec)
    if wrong:
        raise DamagedCheckpoint(wrong)


def _restore(content: Content, state: TrainState) -> None:
    """Fills a new state. If this raises DamagedCheckpoint, the state is to be thrown away."""
    _check_state(content, state)
    try:
        state.network.load_state_dict(content.network)
        for name, optimizer in state.optimizers.items():
            optimizer.load_state_dict({**optimizer.state_dict(), "state": content.optimizers[name]})
        state.generator.set_state(content.generator)
        for streams in content.history.partial.streams if content.history.partial else ():
            require_states(streams, state.device)
    except Exception as error:  # torch has no type of its own for what it doesn't accept
        raise DamagedCheckpoint(f"{type(error).__name__}: {error!s:.200}") from error
    state.weighting_state = on_device_of_weighting(state, content.memory)
    state.cached_weights = content.kept
    state.solver_fallbacks = content.solver_fallbacks


def _check_state(content: Content, state: TrainState) -> None:
    """Raises DamagedCheckpoint if names, shapes or types are not those of this run: torch converts some in silence."""
    network, best, m = _forms(state.network.state_dict()), content.history.best, len(state.tasks)
    by_task, partial = content.history.best_by_task, content.history.partial
    memory, kept = _forms(content.memory), _forms(content.kept)
    expected = {
        "the network": _forms(content.network) == network,
        "the network of the best epoch": best is None or _forms(best.network) == network,
        "the networks of the best epochs": all(
            _forms(by_task[task.key].network) == part_of_task(network, index)
            for index, task in enumerate(state.tasks)
            if task.key in by_task
        ),
        "the optimizers": content.optimizers.keys() == state.optimizers.keys()
        and all(_remembers(content.optimizers[name], optimizer) for name, optimizer in state.optimizers.items()),
        # Weightings may add members in their first step.
        "the weighting": _forms(state.weighting_state.memory).items() <= memory.items(),
        "the cached weights": kept.keys() <= {"weights", "head_weights"} and all(f[0] == (m,) for f in kept.values()),
        "positions": bool(content.history.positions) == (state.network.positions() is not None),
        "the random streams": partial is None
        or all(streams.keys() == {"cpu", content.device} for streams in partial.streams),
    }
    for part, fits in expected.items():
        if not fits:
            raise DamagedCheckpoint(f"expected {part} of this run, found other names, shapes or types")


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of each tensor."""
    return {name: _form(tensor) for name, tensor in tensors.items()}


def _form(tensor: Tensor) -> tuple[tuple[int, ...], torch.dtype]:
    return tuple(tensor.shape), tensor.dtype


def _remembers(stored: Mapping[int, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer) -> bool:
    """Whether this can be what an optimizer remembers: of each parameter, a count and tensors of its own shape."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    names = next(names for kind, names in _REMEMBERED.items() if isinstance(optimizer, kind))
    return all(
        0 <= index < len(parameters)
        and entry.keys() == names
        and all(name == "step" or _form(t) == _form(parameters[index]) for name, t in entry.items())
        and all(entry[name].shape == () for name in entry.keys() & {"step"})
        for index, entry in stored.items()
    )


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between two platforms, in words, as far as both are known."""
    return ", ".join(
        f"{name} {now[name]} instead of {before[name]}" for name in now if before.get(name, now[name]) != now[name]
    )

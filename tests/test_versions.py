"""Numbers and versions: numbers that change without their version raised fail here, and so do settings without a past.

How to renew the golden numbers after a version was raised: RENEW_GOLDEN=1 python -m pytest tests/test_versions.py
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import golden
import numpy as np
import pandas
import pytest
import torch
from golden import Numbers, disagreements, rounded, summary
from synthetic_splits import extreme_case, random_splits, random_targets
from torch import Tensor, nn
from torch.optim import Optimizer
from variants import variants

from bench.engine import backward
from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.context import RunContext
from bench.engine.factored_layers import Layer, LayerUse, LayerUses, worth_factoring
from bench.engine.loop import train
from bench.engine.selection import selection_score
from bench.engine.step import train_step
from bench.engine.train_state import make_train_state
from bench.records.files import atomic_write_text
from bench.records.store import CURVE
from bench.records.upgrade import ADDED, ADDED_TO_ARCHITECTURES, ADDED_TO_WEIGHTINGS
from bench.spec import resolve as resolving
from bench.spec.resolve import RunSpec, resolve
from bench.spec.versions import ENGINE_VERSION, versions_of
from datasets import DATASETS
from methods import ARCHITECTURES, WEIGHTINGS
from methods.architectures.heads import HEADS
from methods.contract import Architecture, Features, PostStepHook, Signal, State, Update, Weighting

SETTINGS = Path(__file__).with_name("settings_keys.json")  # as they were when each section came to be
EPOCHS = (0, 0, 1, 2, 5)  # of the steps of a weighting: some act at the start of an epoch, or after a few
# Training amplifies rounding: by other instructions of the processor, numbers differed by up to 5e-7.
TRAINED_TOLERANCE = 2e-5

# What the engine does differently: one backward pass, heads apart, a Jacobian, positions, approximations, precision.
ENGINE_RUNS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "digits ew": ("digits", "ew", {}),
    "digits graddrop clipped": ("digits", "graddrop", {"train.clip_norm": 1.0}),
    "digits normal cosines": ("digits", "normal", {"train.cosines_every": 2}),
    "digits mgda last block": ("digits", "mgda", {"weighting.grad_space": "last_block", "weighting.every": 2}),
    "rooms uw accumulated": ("rooms", "uw", {"train.accumulate": 2, "train.weight_decay": 0.01}),
    "rooms nash_mtl augmented": ("rooms", "nash_mtl", {"data.augment": True, "train.lr_decay_every": 1}),
    "rooms mgda representation": ("rooms", "mgda", {"weighting.grad_space": "representation"}),
    "faces famo": ("faces", "famo", {}),
    "faces normal alternating": ("faces", "normal", {"arch.updates": "alternating", "heads.rule": "plain"}),
}
# Runs whose gradients of the first step are stored, too: Adam hides their scale.
GRADIENT_RUNS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    **ENGINE_RUNS,
    "digits graddrop clipped": ("digits", "graddrop", {"train.clip_norm": 0.1}),
    "faces cagrad": ("faces", "cagrad", {}),
    "rooms cagrad": ("rooms", "cagrad", {"train.batch_size": 2}),
    "rooms mgda last block": ("rooms", "mgda", {"train.batch_size": 2, "weighting.grad_space": "last_block"}),
}
FACTORED = {"faces cagrad", "rooms cagrad", "rooms mgda last block"}  # their first steps factor some layers
# Gradients u, -u and v, with v at a right angle to u: the least combination vanishes, the mean doesn't.
OPPOSED = [[4.0, -4.0, 0.0], [-4.0, 4.0, 0.0], [0.0, 0.0, 1.0]]
BETWEEN_GRID_POINTS = (0.3, 0.95, -0.4)  # with steps of 0.25


def weighting_numbers(weighting: Weighting) -> Numbers:
    """Weights and all else that a weighting gives on five fixed steps with three tasks."""
    rng = np.random.default_rng(7)
    generator = torch.Generator().manual_seed(7)
    state, numbers = weighting.init(3), dict[str, list[float]]()
    for step, epoch in enumerate(EPOCHS):
        losses = torch.from_numpy(rng.uniform(0.2, 2, 3))
        jacobian = torch.from_numpy(rng.normal(size=(3, 12)) * [[1.0], [3.0], [0.3]])
        needs, gramian = weighting.needs, jacobian @ jacobian.T
        seen = Signal(
            losses,
            gramian if needs in ("gramian", "jacobian") else None,
            step,
            epoch,
            generator,
            jacobian.float() if needs == "jacobian" else None,
            gramian + torch.from_numpy(rng.normal(size=(3, 3))) if needs == "cross_gramian" else None,
        )
        update = weighting.step(seen, state)
        found = {"weights": update.weights, "heads": update.head_weights, "direction": update.direction}
        numbers |= {f"{key} {step}": summary(value) for key, value in found.items() if value is not None}
        numbers[f"fallbacks {step}"] = [int(update.fallbacks)]
        state = after_step(weighting, update, 0.8 * losses)
    return {**numbers, **{f"state {key}": summary(value) for key, value in state.memory.items()}}


def after_step(weighting: Weighting, update: Update, losses: Tensor) -> State:
    """The state after the post-step hook, if there is one."""
    return weighting.post_step(losses, update.state) if isinstance(weighting, PostStepHook) else update.state


def test_weightings_give_the_numbers_of_their_version() -> None:
    wrong = []
    for name, info in WEIGHTINGS.items():
        numbers = {
            f"{variant}: {label}": values
            for variant, weighting in variants(info.factory)
            for label, values in weighting_numbers(weighting).items()
        }
        wrong += disagreements(f"weighting {name}", {"weighting": info.version}, numbers)
    assert not wrong, "\n".join(wrong)


def test_weightings_give_the_numbers_of_their_version_for_opposed_gradients() -> None:
    wrong = []
    losses, gramian = torch.tensor([1.0, 0.5, 2.0]).double(), torch.tensor(OPPOSED).double()
    for name, info in WEIGHTINGS.items():
        if info.factory().needs != "gramian":
            continue
        numbers: dict[str, list[float]] = {}
        for variant, weighting in variants(info.factory):
            seen = Signal(losses, gramian, 0, 0, torch.Generator().manual_seed(7))
            update = weighting.step(seen, weighting.init(3))
            numbers[f"{variant}: weights"] = summary(update.weights)
            numbers[f"{variant}: fallbacks"] = [int(update.fallbacks)]
        assert name != "cagrad" or numbers["default: fallbacks"] == [1]
        wrong += disagreements(f"weighting {name}, opposed gradients", {"weighting": info.version}, numbers)
    assert not wrong, "\n".join(wrong)


def architecture_numbers(architecture: Architecture, dense: bool) -> Numbers:
    """Features, velocities and gradients of a small network on fixed inputs, in double precision."""
    features = Features(channels=8, dense=dense, stride=1)
    rng = np.random.default_rng(3)
    inputs = torch.from_numpy(rng.normal(size=(2, 3, 4, 4)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = [nn.Conv2d(3, 8, 1), nn.Tanh(), *([] if dense else [nn.AdaptiveAvgPool2d(1), nn.Flatten()])]
        heads = [HEADS["conv" if dense else "linear"](features, 2) for _ in range(3)]
        network = architecture.build(nn.Sequential(*layers), heads, features, ["a", "b", "c"])
        for parameter in network.parameters():  # type: ignore[attr-defined]
            if parameter.dim() > 1:  # independent of how torch draws initial weights
                drawn = rng.normal(size=tuple(parameter.shape)) / parameter[0].numel() ** 0.5
                parameter.data.copy_(torch.from_numpy(drawn))
    network.to(torch.float64)
    found = network.features(inputs, [0, 1, 2])
    outputs = [head(one.z) for head, one in zip(network.heads, found, strict=True)]
    shared = network.shared_parameters()
    slopes = torch.autograd.grad(sum(output.square().mean() for output in outputs), shared)  # type: ignore[arg-type]
    numbers = {f"features {task}": summary(one.z) for task, one in enumerate(found)}
    numbers |= {f"velocity {task}": summary(one.velocity) for task, one in enumerate(found) if one.velocity is not None}
    numbers |= {f"gradient {index}": summary(slope) for index, slope in enumerate(slopes)}
    sizes = [sum(p.numel() for p in part) for part in (shared, network.last_block_parameters())]
    return numbers | {"sizes": [*map(float, sizes)], "positions": summary(_tensor(network.positions()))}


def _tensor(positions: Tensor | None) -> Tensor:
    return torch.empty(0) if positions is None else positions


def test_architectures_give_the_numbers_of_their_version() -> None:
    wrong = []
    for name, info in ARCHITECTURES.items():
        numbers = {
            f"{variant}, {'maps' if dense else 'vectors'}: {label}": values
            for variant, architecture in variants(info.factory)
            for dense in (False, True)
            for label, values in architecture_numbers(architecture, dense).items()
        }
        wrong += disagreements(f"architecture {name}", {"architecture": info.version}, numbers)
    assert not wrong, "\n".join(wrong)


def test_the_flow_between_its_grid_points_gives_the_numbers_of_its_version() -> None:
    info = ARCHITECTURES["normal"]
    numbers = {
        f"order {order}, {solver}: {label}": values
        for order in (1, 2)
        for solver in get_args(get_type_hints(info.factory)["solver"])
        for label, values in architecture_numbers(
            info.factory(order=order, solver=solver, initial_positions=BETWEEN_GRID_POINTS),
            dense=False,
        ).items()
    }
    wrong = disagreements("architecture normal, between grid points", {"architecture": info.version}, numbers)
    assert not wrong, "\n".join(wrong)


def test_problems_give_the_numbers_of_their_version() -> None:
    wrong = []
    for name, info in DATASETS.items():
        rng = np.random.default_rng(5)
        numbers = {"normalisation": [*info.mean, *info.std], "tasks": [float(len(info.tasks))]}
        for task in info.tasks[:4]:
            observations = []
            for batch in range(2):
                target = random_targets(task, 6, 8, rng)
                pixels = target.shape[-2:] if target.dim() > 1 else ()
                output = torch.from_numpy(rng.normal(size=(6, task.outputs, *pixels)).astype(np.float32))
                output.requires_grad_()
                loss = task.loss(output, target.long() if target.dtype is torch.int8 else target)
                numbers[f"{task.key} loss {batch}"] = summary(loss)
                numbers[f"{task.key} gradient {batch}"] = summary(torch.autograd.grad(loss, output)[0])
                observations.append(task.measure.update(output.detach(), target))
            numbers[f"{task.key} metrics"] = summary(list(task.measure.compute(observations).values()))
            numbers[f"{task.key} dummy"] = summary(task.constant([target]))
        wrong += disagreements(f"problem {name}", {"problem": info.version}, numbers)
    assert not wrong, "\n".join(wrong)


def test_problems_give_the_numbers_of_their_version_at_extremes() -> None:
    wrong = []
    for name, info in DATASETS.items():
        numbers: dict[str, list[float]] = {}
        for task in info.tasks[:4]:
            output, target = extreme_case(task)
            output.requires_grad_()
            loss = task.loss(output, target)
            numbers[f"{task.key} loss"] = summary(loss)
            numbers[f"{task.key} gradient"] = summary(torch.autograd.grad(loss, output)[0])
            for part, images in (("right", slice(1)), ("right and wrong", slice(2))):
                observations = [task.measure.update(output[images].detach(), target[images])]
                numbers[f"{task.key} metrics, {part}"] = summary(list(task.measure.compute(observations).values()))
        wrong += disagreements(f"problem {name}, extremes", {"problem": info.version}, numbers)
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def random_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems read random splits."""
    for name in {data for data, _, _ in GRADIENT_RUNS.values()}:
        splits = random_splits(DATASETS[name])
        read = lambda folder, settings, splits=splits: splits  # noqa: E731
        monkeypatch.setitem(DATASETS, name, dataclasses.replace(DATASETS[name], read=read))


def test_the_engine_gives_the_numbers_of_its_version(tmp_path: Path, random_data: None) -> None:
    wrong = []
    for name, (data, method, assignments) in ENGINE_RUNS.items():
        spec = resolve(data, method, assignments={"train.epochs": 2, "train.batch_size": 8, **assignments})
        folder = tmp_path / name
        record = train(spec, RunContext(tmp_path, folder, torch.device("cpu"), 1), lambda epochs: None)
        assert record.status == "done" and record.selected is not None, record.reason
        curve = pandas.read_csv(folder / CURVE).drop(columns="seconds")
        numbers = {"positions": summary(list(record.positions.values())), "selected": [record.selected.epoch]}
        numbers |= {f"{column}": summary(curve[column].tolist()) for column in curve if "/" not in str(column)}
        for part in ("train", "weight", "validation"):
            numbers[part] = summary(curve.filter(regex=f"^{part}/").to_numpy().ravel().tolist())
        for part, scores in (("reference", record.reference), ("test", record.test), ("last test", record.last_test)):
            numbers[part] = summary([value for metrics in scores.values() for value in metrics.values()])
        if spec.settings.train.cosines_every:
            numbers["cosines"] = summary(pandas.read_csv(folder / "cosines.csv").to_numpy().ravel().tolist())
        assert record.versions == versions_of(spec)
        wrong += disagreements(f"engine {name}", versions_without_maker(spec), numbers, TRAINED_TOLERANCE)
    assert not wrong, "\n".join(wrong)


def versions_without_maker(spec: RunSpec) -> dict[str, int]:
    """The versions of a run on random images."""
    return {part: version for part, version in versions_of(spec).items() if part != "maker"}


def test_the_engine_gives_the_gradients_of_its_version(random_data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, factored = list[str](), set[str]()
    for name, (data, method, assignments) in GRADIENT_RUNS.items():

        def watched(uses: LayerUses, m: int, name: str = name) -> dict[Layer, list[LayerUse]]:
            chosen = worth_factoring(uses, m)
            factored.update({name} if chosen else ())
            return chosen

        monkeypatch.setattr(backward, "worth_factoring", watched)
        spec = resolve(data, method, assignments={"train.batch_size": 8, **assignments})
        numbers = gradient_numbers(spec)
        wrong += disagreements(f"engine gradients of {name}", versions_without_maker(spec), numbers, TRAINED_TOLERANCE)
    assert factored == FACTORED
    assert not wrong, "\n".join(wrong)


def gradient_numbers(spec: RunSpec) -> Numbers:
    """What every optimizer gets at the first step: norms of the gradients, and their products with fixed vectors."""
    cpu, rng = torch.device("cpu"), np.random.default_rng(11)
    state = make_train_state(spec, build_network(spec, cpu))
    splits, batch_size = spec.info.read(Path(), spec.data_settings), spec.settings.train.batch_size
    batch = next(iter(training_batches(splits.train, spec.info, batch_size, torch.Generator().manual_seed(1), cpu)))
    numbers: dict[str, list[float]] = {}

    def record(optimizer: Optimizer, _arguments: object, _keywords: object) -> None:
        (name,) = (name for name, one in state.optimizers.items() if one is optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        doubles = [gradient.detach().double().flatten() for gradient in gradients]
        vectors = [torch.from_numpy(rng.normal(size=len(gradient)) / len(gradient) ** 0.5) for gradient in doubles]
        norms = [float(gradient.norm()) for gradient in doubles]
        products = [float(gradient @ vector) for gradient, vector in zip(doubles, vectors, strict=True)]
        # Apart, for the smaller ones are compared with the largest of a label.
        shared = len(state.shared_parameters) if name == "network" else 0
        for part, found in (("norms", norms), ("products", products)):
            numbers[f"{name}: {part}, shared"] = rounded(found[:shared])
            numbers[f"{name}: {part}"] = summary(found[shared:])

    for optimizer in state.optimizers.values():
        optimizer.register_step_pre_hook(record)
    train_step(state, batch, 0, 0)
    return numbers


def test_the_protocol_without_validation_gives_the_numbers_of_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = random_splits(DATASETS["digits"], validation=False)
    info = dataclasses.replace(DATASETS["digits"], read=lambda folder, settings: splits)
    monkeypatch.setitem(DATASETS, "digits", info)
    chosen = {"train.epochs": 12, "train.batch_size": 8, "data.protocol": "published"}
    spec = resolve("digits", "ew", assignments=chosen)
    record = train(spec, RunContext(tmp_path, tmp_path / "run", torch.device("cpu"), 1), lambda epochs: None)
    assert record.status == "done" and record.selected is not None and not record.validation, record.reason
    numbers = {"selected": rounded([record.selected.epoch, record.selected.score])}
    for part, scores in (("reference", record.reference), ("test", record.test), ("last test", record.last_test)):
        numbers[part] = summary([value for metrics in scores.values() for value in metrics.values()])
    wrong = disagreements("engine digits without validation", versions_without_maker(spec), numbers, TRAINED_TOLERANCE)
    assert not wrong, "\n".join(wrong)


def test_selection_gives_the_numbers_of_its_version_near_zero() -> None:
    info = DATASETS["rooms"]
    assert info.selection == "gain"
    dummy = {task.key: {metric.key: 0.5 for metric in task.measure.metrics} for task in info.tasks}
    numbers: dict[str, list[float]] = {}
    for value in (0.0, 5e-5, 3e-4, 5e-3):
        scores = {task.key: {metric.key: 0.4 for metric in task.measure.metrics} for task in info.tasks}
        scores["normal"]["within_11.25"] = value
        numbers[f"score at {value:g}"] = [selection_score(info, scores, dummy)]
    versions = {"engine": ENGINE_VERSION, "problem": info.version}
    wrong = disagreements("engine selection near zero", versions, numbers)
    assert not wrong, "\n".join(wrong)


def sections_of_settings() -> dict[str, tuple[list[str], set[str]]]:
    """By section, its keys today, and those that bench/records/upgrade.py knows to be added later."""
    settings = resolve("digits", "ew").settings.as_dict()
    sections = {
        name: (list(settings[name]), {*ADDED.get(name, ())}) for name in settings if name not in ("arch", "weighting")
    }
    for name, info in ARCHITECTURES.items():
        sections[f"arch of {name}"] = names_of(info.factory), {*ADDED_TO_ARCHITECTURES.get(name, ())}
    for name, weighting in WEIGHTINGS.items():
        sections[f"weighting of {name}"] = names_of(weighting.factory), {*ADDED_TO_WEIGHTINGS.get(name, ())}
    sections["weighting of all"] = names_of(resolving.GramianSettings), {*ADDED["weighting"]}
    return sections


def names_of(factory: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(factory)]


def test_a_setting_that_is_new_or_gone_is_known_to_the_upgrade_of_old_records() -> None:
    stored: dict[str, list[str]] = json.loads(SETTINGS.read_text(encoding="utf-8")) if SETTINGS.is_file() else {}
    today = sections_of_settings()
    if os.environ.get("RENEW_GOLDEN"):  # sections that exist stay: their new keys belong in the tables of upgrade.py
        stored = {name: stored.get(name, keys) for name, (keys, _) in today.items()}
        atomic_write_text(SETTINGS, json.dumps(stored, indent=1, sort_keys=True) + "\n")
    for name, (keys, added) in today.items():
        assert name in stored, f"{name} is new: run {golden.RENEW} to store its keys"
        unknown = {*keys} - {*stored[name]} - added
        assert not unknown, (
            f"{', '.join(sorted(unknown))} in {name}: say in bench/records/upgrade.py what the code did before"
        )
        gone = {*stored[name]} - {*keys}
        assert not gone, (
            f"{', '.join(sorted(gone))} no longer in {name}: translate old records in bench/records/upgrade.py, and "
            f"remove it from {SETTINGS.name}"
        )


def test_changes_of_numbers_and_of_versions_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "GOLDEN", tmp_path / "golden.json")
    first, second = {"weights": [1.0, 2.0]}, {"weights": [1.0, 2.001]}

    def said(version: int, numbers: Numbers, renew: bool = False) -> str:
        monkeypatch.setenv("RENEW_GOLDEN", "1" if renew else "")
        return "\n".join(disagreements("weighting ew", {"weighting": version}, numbers))

    assert "has no golden numbers" in said(1, first)
    assert said(1, first, renew=True) == "" == said(1, first) == said(1, {"weights": [1.000001, 2.0]})
    for renew in (False, True):
        assert "raise its version in methods/__init__.py" in said(1, second, renew)
        assert "numbers of weighting ew changed (weights)" in said(1, {}, renew)
    assert "its golden numbers have {'weighting': 1}" in said(2, second)
    assert said(2, second, renew=True) == "" == said(2, second)

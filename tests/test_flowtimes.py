"""The control for NORMAL: its teacher is a flow that NORMAL's own network can be, and nothing else can absorb time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.seeds import generator_for
from bench.engine.step import train_step
from bench.engine.train_state import make_train_state
from bench.spec.resolve import resolve
from datasets import DATASETS
from datasets.contract import DataError, DataSettings
from datasets.embedded import flowtimes
from datasets.fingerprint import fingerprint
from methods import WEIGHTINGS
from methods.architectures.heads import HEADS
from methods.architectures.normal import NormalNetwork
from methods.contract import Features

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data") / "flowtimes"
    flowtimes.make(place)
    return place


@pytest.fixture(scope="module")
def one_time(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data") / "flowtimes_one"
    flowtimes.make_one_time(place)
    return place


def test_a_linear_spring_swings_as_in_the_textbook() -> None:
    """A damped oscillator at rest: z'' = −γ z' − w² z has z(t) = e^(−γt/2) (cos vt + γ/(2v) sin vt) z(0)."""
    z = np.random.default_rng(0).normal(size=(5, flowtimes.WIDTH))
    stiffness = np.linspace(*flowtimes.FREQUENCIES, flowtimes.WIDTH) ** 2
    half = flowtimes.GAMMA / 2
    v = np.sqrt(stiffness + flowtimes.XI - half**2)
    for time, found in zip((0.5, 3.0), flowtimes.states_at(z, (0.5, 3.0), lambda z: z * stiffness), strict=True):
        exact = np.exp(-half * time) * (np.cos(v * time) + half / v * np.sin(v * time)) * z
        assert np.abs(found - exact).max() < 1e-5


def test_the_spring_is_linear_on_one_side_of_a_bend_and_soft_on_the_other() -> None:
    directions, stiffness = flowtimes.modes(), np.linspace(*flowtimes.FREQUENCIES, flowtimes.WIDTH) ** 2
    assert np.allclose(directions @ directions.T, np.eye(flowtimes.WIDTH), atol=1e-12)
    along = np.linspace(-3, 3, 13)[:, None] * directions[:, 7]
    force = flowtimes.spring(along) @ directions[:, 7]
    place = np.linspace(-3, 3, 13)
    assert np.allclose(force, stiffness[7] * np.where(place > -1, place, -1 + 0.01 * (place + 1)), atol=1e-12)


def teaching(times: tuple[float, ...], **settings: object) -> NormalNetwork:
    """NORMAL's network with the weights of the teacher."""
    chosen = {"position_form": "constant", "initial_positions": list(times), **settings}
    spec = resolve("flowtimes", "normal", assignments={f"arch.{key}": value for key, value in chosen.items()})
    network = build_network(spec, CPU)
    assert isinstance(network, NormalNetwork)
    directions = torch.from_numpy(flowtimes.modes())
    stiff = directions * torch.linspace(*flowtimes.FREQUENCIES, flowtimes.WIDTH, dtype=torch.float64) ** 2
    weights = {
        "encoder.2.weight": torch.from_numpy(flowtimes.encoder()),
        "encoder.2.bias": torch.zeros(flowtimes.WIDTH),
        "flow.force.0.weight": directions.T,
        "flow.force.0.bias": torch.ones(flowtimes.WIDTH),
        "flow.force.2.weight": stiff,
        "flow.force.2.bias": -stiff.sum(dim=1),
        **{f"flow.initial_velocity.2.{part}": torch.zeros(()) for part in ("weight", "bias")},
        "flow.omega": torch.logit(torch.tensor(flowtimes.GAMMA, dtype=torch.float64)),
    }
    network.double()
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value.expand_as(parameters[name]))
    return network


def outputs_of(network: NormalNetwork, inputs: torch.Tensor) -> torch.Tensor:
    """(m, B, outputs)"""
    found = network.features(inputs, range(len(network.heads)))
    return torch.stack([head.double()(of.z) for head, of in zip(network.heads, found, strict=True)])


def test_the_teacher_is_normal_itself() -> None:
    """With the teacher's weights and a fine solver, NORMAL gives the teacher's outputs at its times, for all items."""
    images = flowtimes.pictures(200)
    x = torch.from_numpy(flowtimes.inputs_of(images)).view(-1, 3, 3, 3)
    network = teaching(flowtimes.TIMES, solver="rk4", step_size=0.05, max_steps=64)
    with torch.no_grad():
        found = outputs_of(network, x)
    states = flowtimes.states_at(flowtimes.inputs_of(images) @ flowtimes.encoder().T, flowtimes.TIMES)
    for output, z in zip(found, states, strict=True):
        # Where g bends, solvers of order 4 with other stages differ by more than h⁴.
        assert torch.allclose(output, torch.from_numpy(z @ flowtimes.readout().T), rtol=0, atol=5e-3)
    labels = flowtimes.labels_of(images, flowtimes.TIMES)
    assert (found.argmax(dim=2).T.numpy() == labels).mean() > 0.998


def test_normal_with_its_default_solver_can_come_close() -> None:
    """Euler's steps of 0.25 lose some: with the teacher's own weights, most labels are right, and far from all at 3."""
    images = flowtimes.pictures(1000)
    x = torch.from_numpy(flowtimes.inputs_of(images)).view(-1, 3, 3, 3)
    with torch.no_grad():
        found = outputs_of(teaching(flowtimes.TIMES), x).argmax(dim=2).T.numpy()
    right = (found == flowtimes.labels_of(images, flowtimes.TIMES)).mean(axis=0)
    assert right.mean() > 0.6
    assert right[flowtimes.TIMES.index(0.5)] > right[flowtimes.TIMES.index(3.0)]


def test_the_readout_is_the_one_of_the_labels_and_is_not_trained() -> None:
    head = HEADS["frozen_readout"](Features(flowtimes.WIDTH, dense=False, stride=1), flowtimes.CLASSES)
    assert not list(head.parameters()) and not head.state_dict()
    assert isinstance(head.readout, torch.Tensor)
    assert np.allclose(head.readout.numpy(), flowtimes.readout(), atol=1e-6)
    # Rows are equally long and nearly orthogonal or opposite, so no class is favoured by the readout.
    products = flowtimes.readout() @ flowtimes.readout().T
    assert np.allclose(np.diag(products), 4)
    assert set(np.round(products[~np.eye(10, dtype=bool)], 9)) <= {0.0, -0.0, -1.0}


def test_networks_see_the_inputs_of_the_teacher(folder: Path) -> None:
    spec = resolve("flowtimes", "ew")
    splits = spec.info.read(folder, spec.data_settings)
    (source,) = splits.train
    batch = next(iter(training_batches(splits.train, spec.info, 4, generator_for(0, "a"), CPU)))
    x = flowtimes.inputs_of(np.load(folder / flowtimes.IMAGES_FILE))
    for seen in batch[0].inputs.flatten(1).double().numpy():
        assert np.abs(x - seen).max(axis=1).min() < 1e-5
    assert abs(x.mean()) < 0.01 and abs(x.std() - 1) < 0.01
    assert len(source) == 2000 and set(batch[0].targets) == set(range(6))


def test_splits_are_disjoint_and_may_differ_by_seed(folder: Path) -> None:
    drawn = []
    for seed in (0, 10):
        spec = resolve("flowtimes", "ew", seed=seed, assignments={"data.split_per_seed": True})
        splits = spec.info.read(folder, spec.data_settings)
        rows = [split[0].rows for split in (splits.train, splits.validation, splits.test)]
        assert all(part is not None for part in rows)
        assert [len(part) for part in rows if part is not None] == [2000, 1000, 3000]
        assert torch.cat([part for part in rows if part is not None]).unique().numel() == 6000
        drawn.append((splits.provenance["digest"], fingerprint(splits)))
    assert drawn[0][0] != drawn[1][0] and drawn[0][1]["test"] != drawn[1][1]["test"]
    assert drawn[0][1]["whole"] == drawn[1][1]["whole"]


def test_the_negative_control_is_one_task_six_times(folder: Path, one_time: Path) -> None:
    images, others = (np.load(place / flowtimes.IMAGES_FILE) for place in (folder, one_time))
    labels, same = (np.load(place / flowtimes.LABELS_FILE) for place in (folder, one_time))
    assert (images == others).all()
    assert (same == same[:, :1]).all() and len(np.unique(labels, axis=1).T) == 6
    # Neighbouring times agree on about half of the labels, the first and the last on hardly any.
    first, second, last = (labels[:, flowtimes.TIMES.index(time)] for time in (0.5, 1.0, 3.0))
    assert (first == second).mean() > 0.4 and (first == last).mean() < 0.1


def test_what_is_damaged_or_makes_no_sense_is_refused(folder: Path, tmp_path: Path) -> None:
    settings, read = DataSettings(None), flowtimes.read_flowtimes
    with pytest.raises(DataError, match=r"images\.npy: expected an array, found none"):
        read(tmp_path, settings)
    (tmp_path / flowtimes.IMAGES_FILE).write_bytes((folder / flowtimes.IMAGES_FILE).read_bytes())
    np.save(tmp_path / flowtimes.LABELS_FILE, np.zeros((6000, 5), np.uint8))
    with pytest.raises(DataError, match=r"expected uint8 of shape \(6000, 6\), found uint8 of shape \(6000, 5\)"):
        read(tmp_path, settings)
    (tmp_path / flowtimes.LABELS_FILE).write_bytes(b"")
    with pytest.raises(DataError, match=r"labels\.npy: expected an array"):
        read(tmp_path, settings)
    for chosen in (DataSettings((8, 8)), DataSettings(None, augment=True), DataSettings(None, protocol="published")):
        with pytest.raises(DataError, match=r"data\."):
            read(folder, chosen)


@pytest.mark.parametrize("weighting", [name for name in WEIGHTINGS if name not in ("fixed", "epo")])
@pytest.mark.parametrize("arch", ["hps", "normal"])
def test_every_method_steps_with_heads_that_have_no_parameters(folder: Path, arch: str, weighting: str) -> None:
    spec = resolve("flowtimes", architecture=arch, weighting=weighting, assignments={"train.batch_size": 8})
    splits = spec.info.read(folder, spec.data_settings)
    network = build_network(spec, CPU)
    state = make_train_state(spec, network)
    assert not list(network.heads.parameters())
    before = [parameter.clone() for parameter in network.shared_parameters()]
    streams = [training_batches(splits.train, spec.info, 8, generator_for(0, str(i)), CPU) for i in range(3)]
    for step, batches in zip(range(2), zip(*streams, strict=True), strict=False):
        needed = batches[: getattr(spec.settings.weighting, "batches", 1)]
        result = train_step(state, needed[0], step, 0, others=needed[1:])
        assert torch.isfinite(result.losses).all() and torch.isfinite(result.weights).all()
    assert not all(torch.equal(*pair) for pair in zip(before, network.shared_parameters(), strict=True))


def test_both_are_marked_as_controls() -> None:
    assert {name for name, info in DATASETS.items() if info.control} == {"flowtimes", "flowtimes_one"}

"""Adapters: every weighting of LibMTL and TorchJD keeps our contract, and a missing package is one line."""

from __future__ import annotations

import importlib
import pickle
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import for_every
from data_trees import write_digits
from pretend.device import DEVICE, available

from bench import run
from bench.records.all_records import read_records
from bench.spec.lookup import UnknownName
from bench.spec.resolve import resolve
from bench.spec.settings import SpecError
from methods import WEIGHTINGS
from methods.adapters import adapted_weightings, libmtl
from methods.adapters.bridge import PeerFailed, PeerUnavailable, nearest_weights
from methods.contract import PostStepHook, Signal, State, Update, Weighting

pytest.importorskip("torchjd", reason="the extra `peers` isn't installed")
pytestmark = pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")

ADAPTERS = adapted_weightings()


def observed(step: int, m: int = 3) -> Signal:
    """What step `step` of a run sees: three steps an epoch, gradients of very different lengths."""
    numbers = torch.Generator().manual_seed(100 + step)
    jacobian = torch.randn(m, 7, generator=numbers) * torch.logspace(-0.5, 0.5, m).unsqueeze(1)
    losses = torch.rand(m, generator=numbers).double() + 0.5
    gramian = jacobian.double() @ jacobian.double().T
    generator = torch.Generator().manual_seed(step)
    return Signal(losses, gramian, step, step // 3, generator, jacobian, cross_gramian=gramian)


def advance(weighting: Weighting, signal: Signal, state: State) -> Update:
    """A step, and the post-step hook if the weighting has one."""
    update = weighting.step(signal, state)
    if isinstance(weighting, PostStepHook):
        update = replace(update, state=weighting.post_step(0.9 * signal.losses, update.state))
    return update


@for_every("name", ADAPTERS)
def test_every_adapter_steps(name: str) -> None:
    weighting = ADAPTERS[name].factory()
    assert isinstance(weighting, Weighting)
    state = weighting.init(3)
    for step in range(7):
        update = advance(weighting, observed(step), state)
        state = update.state
        assert update.weights.shape == (3,) and update.weights.dtype == torch.float64
        assert torch.isfinite(update.weights).all()
        if update.direction is not None:
            assert update.direction.shape == (7,) and torch.isfinite(update.direction).all()


def sent(values: torch.Tensor | None) -> torch.Tensor | None:
    return None if values is None else values.to(DEVICE)


@for_every("name", [name for name, info in ADAPTERS.items() if info.factory.needs in ("losses", "jacobian")])
def test_on_an_accelerator_numbers_are_those_of_the_cpu(name: str) -> None:
    weighting = ADAPTERS[name].factory()
    state = weighting.init(3)
    with available():
        away = State({key: values.to(DEVICE) for key, values in state.memory.items()})
        for step in range(4):
            seen = observed(step)
            parts = {key: sent(getattr(seen, key)) for key in ("losses", "gramian", "jacobian")}
            expected = advance(weighting, seen, state)
            found = advance(weighting, replace(observed(step), **parts), away)
            state, away = expected.state, found.state
            for key in ("weights", "head_weights", "direction"):
                one, other = getattr(expected, key), getattr(found, key)
                assert (one is None and other is None) or torch.equal(one, other.cpu()), key


@for_every("name", ADAPTERS)
def test_state_is_all_there_is(name: str, tmp_path: Path) -> None:
    """From a state that went to disk, the run goes on as without the break, whatever ran in between."""
    weighting = ADAPTERS[name].factory()
    state = weighting.init(3)
    for step in range(4):
        state = advance(weighting, observed(step), state).state
    torch.save(dict(state.memory), tmp_path / "state.pt")
    straight = [advance(weighting, observed(4), state)]
    straight.append(advance(weighting, observed(5), straight[0].state))
    advance(weighting, observed(17), weighting.init(3))
    state = State(torch.load(tmp_path / "state.pt", weights_only=True))
    for step, expected in zip((4, 5), straight, strict=True):
        update = advance(weighting, observed(step), state)
        torch.testing.assert_close(update.weights, expected.weights, rtol=0, atol=0)
        state = update.state


@for_every("name", ADAPTERS)
def test_settings_travel_to_workers(name: str) -> None:
    weighting = ADAPTERS[name].factory()
    assert pickle.loads(pickle.dumps(weighting)) == weighting
    spec = resolve("rooms", weighting=name)
    assert ":" not in spec.variant and spec.label == f"HPS + {ADAPTERS[name].label}"


def test_labels_are_unique_and_say_whose() -> None:
    labels = [info.label for info in (*WEIGHTINGS.values(), *ADAPTERS.values())]
    assert len(set(labels)) == len(labels)
    assert ADAPTERS["libmtl:mgda"].label == "LibMTL: MGDA" and ADAPTERS["torchjd:cr_mogm"].label == "TorchJD: CRMOGM"


def test_every_weighting_of_the_packages_is_there() -> None:
    """By the packages' own lists; what is left out is the bare weighting beside its aggregator, or a base class."""
    there = {factory.peer for factory in (info.factory for info in ADAPTERS.values())}
    theirs = set(libmtl.weightings().__all__) - {"AbsWeighting"}
    aggregation, scalarization = (
        importlib.import_module(f"torchjd.{part}") for part in ("aggregation", "scalarization")
    )
    bases = {"Aggregator", "GramianWeightedAggregator", "WeightedAggregator", "Weighting", "Scalarizer"}
    theirs |= set(aggregation.__all__) | set(scalarization.__all__)
    missing = {name for name in theirs - bases - there if name.removesuffix("Weighting") not in there}
    assert not missing


def test_names_are_forgiving() -> None:
    for typed, meant in {"LibMTL:MGDA": "libmtl:mgda", "TorchJD:Nash-MTL": "torchjd:nash_mtl"}.items():
        assert resolve("rooms", weighting=typed).weighting == meant
    with pytest.raises(UnknownName, match="Did you mean 'torchjd:upgrad'"):
        resolve("rooms", weighting="torchjd:upgard")


def test_options_reach_the_package() -> None:
    spec = resolve("rooms", weighting="libmtl:mgda", assignments={"weighting.mgda_gn": "l2"})
    assert spec.overrides == {"weighting.mgda_gn": "l2"}
    with pytest.raises(SpecError, match="No support normalization type l3"):
        resolve("rooms", weighting="libmtl:mgda", assignments={"weighting.mgda_gn": "l3"})
    with pytest.raises(SpecError, match="epsilon must be positive"):
        resolve("rooms", weighting="torchjd:mgda", assignments={"weighting.epsilon": 0.0})
    weights = resolve("rooms", weighting="torchjd:constant", assignments={"weighting.weights": [0.2, 0.3, 0.5]})
    state = weights.settings.weighting.init(3)
    expected = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    torch.testing.assert_close(weights.settings.weighting.step(observed(0), state).weights, expected)


@pytest.mark.parametrize(("name", "module"), [("libmtl:ew", "LibMTL"), ("torchjd:upgrad", "torchjd")])
def test_missing_package_is_one_line(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    libmtl.weightings.cache_clear()
    for loaded in [key for key in sys.modules if key.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PeerUnavailable, match=r"pip install -e '\.\[peers\]'") as caught:
        ADAPTERS[name].factory().init(3)
    assert "\n" not in str(caught.value)
    with pytest.raises(SpecError, match="pip install"):
        resolve("rooms", weighting=name)
    libmtl.weightings.cache_clear()


def test_tables_import_no_package() -> None:
    before = set(sys.modules)
    importlib.reload(importlib.import_module("methods.adapters"))
    assert adapted_weightings()
    assert not {name for name in set(sys.modules) - before if name.startswith(("LibMTL", "torchjd"))}


def test_torchvision_is_left_as_it_was() -> None:
    libmtl.weightings()
    assert "torchvision.models.utils" not in sys.modules


def test_global_random_streams_are_left_alone() -> None:
    random.seed(5)
    torch.manual_seed(5)
    expected = (random.random(), torch.rand(1))
    random.seed(5)
    torch.manual_seed(5)
    for name in ("libmtl:pcgrad", "libmtl:rlw", "torchjd:pcgrad", "torchjd:random"):
        ADAPTERS[name].factory().step(observed(0), State())
    assert (random.random(), torch.rand(1)) == expected


def test_errors_of_the_package_are_named() -> None:
    twins = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    signal = Signal(torch.ones(3).double(), (twins @ twins.T).double(), 7, 0, torch.Generator(), twins)
    weighting: Weighting = libmtl.IMTL()  # type: ignore[assignment]
    with pytest.raises(PeerFailed, match=r"LibMTL's IMTL failed at step 7: .*singular"):
        weighting.step(signal, weighting.init(3))


def test_nearest_weights_give_a_combination_back() -> None:
    signal = observed(2)
    assert signal.gramian is not None and signal.jacobian is not None
    weights = torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64)
    found = nearest_weights(signal.gramian, signal.jacobian, weights.float() @ signal.jacobian)
    torch.testing.assert_close(found, weights, rtol=1e-4, atol=1e-5)
    broken = nearest_weights(signal.gramian, signal.jacobian, torch.full((7,), torch.nan))
    assert torch.isnan(broken).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchjd:upgrad", "libmtl:gradvac"])
def test_adapters_train(name: str, tmp_path: Path) -> None:
    write_digits(tmp_path / "data")
    arguments = ["--weighting", name, "--data", "digits", "--epochs", "1", "--seeds", "0", "--device", "cpu"]
    assert run.main([*arguments, "--data-root", str(tmp_path / "data"), "--results", str(tmp_path / "results")]) == 0
    (record,) = read_records(tmp_path / "results")
    assert record.status == "done" and record.weighting == name
    assert record.variant.startswith("hps+" + name.replace(":", "-"))

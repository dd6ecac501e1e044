"""Ours beside tables that the authors' code computed, on the same float32 gradients, over several steps of state.

Each table in tests/released says which code was run and how. The authors' code computes in float32, ours in float64 or
float32, and theirs adds numbers like 1e-8 to norms and losses: results agree to a few float32 roundings of the largest.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from cases import for_every
from torch import Tensor

from methods.contract import HeadRule, Signal, Update, Weighting
from methods.rows import gramian_of
from methods.weightings.aligned_mtl import AlignedMTL
from methods.weightings.db_mtl import DBMTL
from methods.weightings.excess_mtl import ExcessMTL
from methods.weightings.graddrop import GradDrop
from methods.weightings.moco import MoCo
from methods.weightings.stch import STCH
from methods.weightings.upgrad import UPGrad

TABLES = Path(__file__).with_name("released")
FLOAT32 = 3e-6
DRAWS = 7  # the seed of random draws in the tables


def cases_of(name: str) -> list[dict[str, Any]]:
    table = json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))
    assert {"repository", "commit", "command", "shims", "seed"} <= set(table["origin"])
    cases: list[dict[str, Any]] = table["cases"]
    return cases


def single(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def signals(case: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Signal]]:
    for number, step in enumerate(case["steps"]):
        rows, losses = single(step["jacobian"]), single(step["losses"]).double()
        stream = torch.Generator().manual_seed(DRAWS)
        yield step, Signal(losses, gramian_of(rows), number, step["epoch"], stream, rows)


def shared_gradient(update: Update, signal: Signal) -> Tensor:
    rows = signal.required_jacobian()
    return update.weights @ rows.double() if update.direction is None else update.direction.double()


def assert_close(found: Tensor, expected: Any, tolerance: float = FLOAT32) -> None:
    """Relative to the length of what is expected."""
    target = torch.tensor(expected, dtype=torch.float64)
    assert (found.double() - target).norm() <= tolerance * target.norm()


def assert_as_released(weighting: Weighting, case: dict[str, Any], tolerance: float = FLOAT32) -> None:
    """Shared gradients at every step and, where the table has them, the factors of the heads' gradients."""
    state = weighting.init(len(case["steps"][0]["losses"]))
    for step, signal in signals(case):
        update = weighting.step(signal, state)
        assert_close(shared_gradient(update, signal), step["update"], tolerance)
        if "head_factors" in step:
            assert_close(head_factors(weighting.heads, update), step["head_factors"], tolerance)
        state = update.state


def head_factors(rule: HeadRule, update: Update) -> Tensor:
    if rule == "own":
        assert update.head_weights is not None
        return update.head_weights
    return update.weights if rule == "weighted" else torch.ones_like(update.weights)


@for_every("case", cases_of("aligned_mtl"))
def test_aligned_mtl(case: dict[str, Any]) -> None:
    """Eigenvalues of a float32 Gramian are exact to 1e-7 of the largest; all are scaled to the least."""
    assert_as_released(AlignedMTL(scale=case["options"]["scale_mode"]), case, 1e-5)


@for_every("case", cases_of("db_mtl"))
def test_db_mtl(case: dict[str, Any]) -> None:
    options = case["options"]
    assert_as_released(DBMTL(options["DB_beta"], options["DB_beta_sigma"]), case)


def test_defaults_are_those_of_the_tables() -> None:
    """The first case of a table has the options that the authors' code has by default or in its main script."""
    options = {name: cases_of(name)[0]["options"] for name in ("db_mtl", "excess_mtl", "graddrop", "moco", "stch")}
    assert options["db_mtl"] == {"DB_beta": DBMTL().beta, "DB_beta_sigma": DBMTL().beta_sigma}
    assert options["excess_mtl"] == {"robust_step_size": ExcessMTL().step_size}
    assert options["graddrop"] == {"leak": GradDrop().leak, "keep_gradnorm_constant": GradDrop().variant == "released"}
    assert options["stch"] == {"STCH_mu": STCH().mu, "STCH_warmup_epoch": STCH().warmup_epochs}
    moco = MoCo()
    assert moco.variant == "released" and options["moco"] == {
        "smgdc_method": "raw_loss",
        "beta": moco.beta,
        "delta": moco.gamma,
        "sigma2": moco.beta_sigma,
        "sigma3": moco.gamma_sigma,
    }


@for_every("case", cases_of("excess_mtl"))
def test_excess_mtl(case: dict[str, Any]) -> None:
    assert_as_released(ExcessMTL(case["options"]["robust_step_size"]), case)


@for_every("case", cases_of("stch"))
def test_stch(case: dict[str, Any]) -> None:
    options = case["options"]
    assert_as_released(STCH(mu=options["STCH_mu"], warmup_epochs=options["STCH_warmup_epoch"]), case)


@for_every("case", cases_of("moco"))
def test_moco(case: dict[str, Any]) -> None:
    options = case["options"]
    rates = {"beta": options["beta"], "beta_sigma": options["sigma2"], "gamma_sigma": options["sigma3"]}
    gamma = options["delta"]
    if case["code"] == "Tracking":  # for Office: as published, along the whole slope of ‖Yᵀλ‖² instead of half of it
        assert_as_released(MoCo("paper", gamma=2 * gamma, **rates), case)
    else:
        assert_as_released(MoCo("released", gamma=gamma, **rates), case)


@for_every("case", cases_of("upgrad"))
def test_upgrad(case: dict[str, Any]) -> None:
    """The same on the Gramian to which the released code adds reg_eps times its trace; below norm_eps, it adds only."""
    ((step, signal),) = signals(case)
    gramian, rows = signal.required_gramian(), signal.required_jacobian().double()
    ridge = case["options"]["reg_eps"] * torch.eye(len(gramian), dtype=torch.float64)
    short = bool(gramian.trace() < case["options"]["norm_eps"])
    seen = ridge if short else gramian + gramian.trace() * ridge
    update = UPGrad().step(dataclasses.replace(signal, gramian=seen), UPGrad().init(len(rows)))
    assert_close(shared_gradient(update, signal), step["update"])
    if short:  # so that it is the mean, although that is in conflict with a task
        assert_close(rows.mean(dim=0), step["update"])
        assert (rows @ rows.mean(dim=0)).min() < -0.01 * gramian.trace()


@for_every("case", cases_of("graddrop"))
def test_graddrop(case: dict[str, Any]) -> None:
    """With the same draws."""
    options = case["options"]
    assert_as_released(GradDrop(options["leak"], "released" if options["keep_gradnorm_constant"] else "paper"), case)

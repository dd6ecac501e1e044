"""The benchmark of solvers: complete, exact where ours is, and of use where a peer is missing."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import speed
from bench.profiling import solvers
from bench.profiling.solver_table import cells, write
from bench.profiling.solvers import LIBMTL, OURS, TORCHJD, Timing, measure, problems, residual
from methods import WEIGHTINGS
from methods.adapters.bridge import PeerUnavailable

BOUNDS = {"mgda": 1e-8, "nash_mtl": 1e-8, "imtl": 1e-6, "cagrad": 1e-9, "upgrad": 1e-8}


@pytest.fixture(scope="module")
def own() -> list[Timing]:
    return list(measure([2, 3], [], rounds=1))


def test_every_weighting_is_timed_and_ours_are_exact(own: list[Timing]) -> None:
    assert {(t.weighting, t.tasks) for t in own} == {(name, m) for name in WEIGHTINGS for m in (2, 3)}
    assert {t.kind for t in own} == {"even", "uneven"} and not any(t.fault for t in own)
    for timing in own:
        assert timing.milliseconds is not None and timing.milliseconds > 0
        assert (timing.residual is None) == (timing.weighting not in BOUNDS)
        if timing.residual is not None:
            assert timing.residual <= BOUNDS[timing.weighting], timing


def test_criteria_see_wrong_weights() -> None:
    problem = next(p for p in problems(3) if p.kind == "uneven")
    for name in ("mgda", "nash_mtl", "imtl", "cagrad"):
        found = residual(name, problem.signal, torch.tensor([1.0, 1.0, 1.5]), OURS)
        assert found is not None and found > 1e-3, name
    opposed = np.array([[1.0, -2.0], [-2.0, 9.0]])
    assert solvers.conflict(opposed, np.ones(2)) == pytest.approx(1 / np.sqrt(6))
    assert solvers.bargain_gap(opposed, np.array([1.0, -1.0])) > 0.1


def test_problems_are_the_same_at_every_call() -> None:
    for first, second in zip(problems(4), problems(4), strict=True):
        assert torch.equal(first.signal.required_gramian(), second.signal.required_gramian())


def test_table_has_a_row_for_each_and_says_what_is_not_installed(own: list[Timing]) -> None:
    head, rows = cells(own, {LIBMTL: "LibMTL can't be imported", TORCHJD: ""})
    assert "LibMTL: not installed (pip install -e '.[peers]')" in head
    assert [(row[0], row[1]) for row in rows] == [(w.label, str(m)) for w in WEIGHTINGS.values() for m in (2, 3)]
    assert {len(row) for row in rows} == {len(head)}


def test_a_peer_that_is_not_installed_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def absent(*names: str) -> None:
        raise PeerUnavailable("TorchJD can't be imported")

    monkeypatch.setattr(solvers, "import_peer", absent)
    monkeypatch.setattr(solvers, "WEIGHTINGS", {"mgda": WEIGHTINGS["mgda"]})
    arguments = ["solvers", "--tasks", "2", "--rounds", "1", "--against", "torchjd", "--out", str(tmp_path)]
    assert speed.main(arguments) == 0
    printed, written = capsys.readouterr().out, (tmp_path / "solvers.md").read_text(encoding="utf-8")
    for text in (printed, written):
        assert "TorchJD can't be imported" in text and "pip install" in text


def test_files(own: list[Timing], tmp_path: Path) -> None:
    write(own, {}, tmp_path / "deep")
    with (tmp_path / "deep" / "solvers.csv").open(encoding="utf-8") as file:
        stored = list(csv.DictReader(file))
    assert len(stored) == len(own) and stored[0]["contestant"] == OURS
    table = [
        line for line in (tmp_path / "deep" / "solvers.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"
    ]
    assert len({line.count("|") for line in table}) == 1 and len(table) == 2 + 2 * len(WEIGHTINGS)


@pytest.mark.parametrize(("peer", "module"), [(TORCHJD, "torchjd"), (LIBMTL, "LibMTL")])
def test_beside_a_peer(peer: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    names = ("ew", "mgda", "pcgrad", "imtl", "cagrad")
    monkeypatch.setattr(solvers, "WEIGHTINGS", {name: WEIGHTINGS[name] for name in names})
    timings = list(measure([4], [peer], rounds=1))
    theirs = {t.weighting: t for t in timings if t.contestant == peer and t.kind == "even"}
    assert set(theirs) == set(names)
    # LibMTL's CAGrad is made for three tasks; the table shows what it raised.
    assert {name for name, t in theirs.items() if t.fault} == ({"cagrad"} if peer == LIBMTL else set())
    left = theirs["mgda"].residual
    assert left is not None and left < 1e-2

"""The benchmark of weightings by themselves: complete, exact for ours, and useful without the other packages."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import speed
from bench.profiling import solvers
from bench.profiling.gradients import FAMILIES, REGULAR
from bench.profiling.solvers import Solution, measure, problems, residual
from bench.profiling.tables import solver_page, solver_table
from bench.records.speed import OURS
from methods import WEIGHTINGS
from methods.adapters import counterparts, libmtl
from methods.adapters.bridge import PeerUnavailable
from methods.adapters.counterparts import COUNTERPARTS, LIBMTL, TORCHJD, methods_in
from methods.optimality import bargain_gap, conflict

BOUNDS = {"mgda": 1e-8, "nash_mtl": 1e-8, "imtl": 1e-6, "cagrad": 1e-9, "upgrad": 1e-8, "config": 1e-6}


@pytest.fixture(scope="module")
def own() -> list[Solution]:
    return list(measure([2, 3], [], rounds=1))


def test_every_weighting_is_timed_and_ours_are_exact(own: list[Solution]) -> None:
    assert {(s.weighting, s.tasks) for s in own} == {(name, m) for name in WEIGHTINGS for m in (2, 3)}
    assert {s.family for s in own} == set(FAMILIES) and not any(s.error for s in own)
    for solution in own:
        assert solution.milliseconds is not None and solution.milliseconds > 0
        assert (solution.residual is None) == (solution.weighting not in BOUNDS or solution.family not in REGULAR)
        if solution.residual is not None:
            assert solution.residual <= BOUNDS[solution.weighting], solution


def test_criteria_see_wrong_weights() -> None:
    problem = next(p for p in problems(3) if p.family == "spread")
    for name in ("mgda", "nash_mtl", "imtl", "cagrad"):
        found = residual(name, problem.signal, torch.tensor([1.0, 1.0, 1.5]))
        assert found is not None and found > 1e-3, name
    opposed = np.array([[1.0, -2.0], [-2.0, 9.0]])
    assert conflict(opposed, np.ones(2)) == pytest.approx(1 / np.sqrt(6))
    assert bargain_gap(opposed, np.array([1.0, -1.0])) > 0.1


def test_problems_are_the_same_at_every_call() -> None:
    for first, second in zip(problems(4), problems(4), strict=True):
        assert torch.equal(first.signal.required_gramian(), second.signal.required_gramian())


def test_a_package_that_is_not_installed_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def absent(*names: str) -> None:
        raise PeerUnavailable("TorchJD can't be imported")

    monkeypatch.setattr(counterparts, "import_peer", absent)
    monkeypatch.setattr(solvers, "WEIGHTINGS", {"mgda": WEIGHTINGS["mgda"]})
    arguments = ["solvers", "--tasks", "2", "--rounds", "1", "--against", "torchjd", "--out", str(tmp_path)]
    assert speed.main(arguments) == 0
    printed, written = capsys.readouterr().out, (tmp_path / "solvers.md").read_text(encoding="utf-8")
    for text in (printed, written):
        assert "TorchJD can't be imported" in text and "pip install" in text and "× ours: over ours" in text


def test_table_and_files(own: list[Solution], tmp_path: Path) -> None:
    table = solver_table(own, {LIBMTL: "LibMTL can't be imported", TORCHJD: ""})
    assert sum(group.span for group in table.groups) == len(table.columns)
    rows = [(row.head.text, row.cells[0].text) for row in table.rows]
    assert rows == [(w.label, str(m)) for w in WEIGHTINGS.values() for m in (2, 3)]
    solver_page(own, {}).write(tmp_path / "deep", "solvers")
    with (tmp_path / "deep" / "solvers.csv").open(encoding="utf-8") as file:
        stored = list(csv.DictReader(file))
    assert len(stored) == len(own) and stored[0]["candidate"] == OURS
    assert "| MGDA | 3 |" in (tmp_path / "deep" / "solvers.md").read_text(encoding="utf-8")


def test_config_of_torchjd_is_timed_with_its_direction() -> None:
    """Its attribute `weighting` is not what maps a Jacobian to weights."""
    pytest.importorskip("torchjd", reason="the extra `peers` isn't installed")
    for problem in (p for p in problems(3) if p.family in ("random", "aligned", "spread")):
        answer = solvers._SOLVERS[TORCHJD]("config", problem.signal)()
        found = residual("config", problem.signal, answer)
        assert found is not None and found < 1e-4  # it works in single precision


def test_beside_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """LibMTL's CAGrad is made for three tasks, its IMTL for independent gradients; the table shows each error once."""
    packages = [package for package, module in ((TORCHJD, "torchjd"), (LIBMTL, "LibMTL")) if find_spec(module)]
    if not packages:
        pytest.skip("neither TorchJD nor LibMTL is installed")
    names = ("ew", "mgda", "pcgrad", "imtl", "cagrad")
    monkeypatch.setattr(solvers, "WEIGHTINGS", {name: WEIGHTINGS[name] for name in names})
    monkeypatch.setattr(solvers, "FAMILIES", ("random", "duplicated"))
    solutions = list(measure([4], packages, rounds=1))
    for package in packages:
        theirs = {s.weighting: s for s in solutions if s.candidate == package and s.family == "random"}
        assert set(theirs) == set(names), package
        assert {name for name, s in theirs.items() if s.error} == ({"cagrad"} if package == LIBMTL else set())
        found = theirs["mgda"].residual
        assert found is not None and found < 1e-2, package
    notes = list(solver_table(solutions, dict.fromkeys(packages, "")).footnotes)
    assert len(notes) == len(set(notes)) and (LIBMTL in packages) == any("LibMTL: ValueError: " in x for x in notes)


def test_counterparts_exist() -> None:
    """Every class of the table is there, and every weighting of LibMTL is in the table."""
    pytest.importorskip("torchjd", reason="the extra `peers` isn't installed")
    assert set(methods_in(LIBMTL)) == set(libmtl.WEIGHTINGS) and set(COUNTERPARTS) <= set(WEIGHTINGS)
    for name, row in COUNTERPARTS.items():
        assert not row.libmtl or hasattr(libmtl.weightings(), row.libmtl), name
        found = [counterparts.torchjd_object(name, kind, 3) for kind in ("scalarizer", "aggregator")]
        assert [bool(made) for made in found] == [bool(row.scalarizer), bool(row.aggregator)], name

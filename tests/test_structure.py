"""The shape of the project: who imports whom, and that nothing is half registered."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import ROOT
from datasets import DATASETS
from methods import ARCHITECTURES, METHODS, WEIGHTINGS
from methods.architectures.backbones import BACKBONES
from methods.architectures.heads import HEADS
from methods.contract import Weighting

PACKAGES = ("bench", "methods", "datasets")


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize(
    ("package", "forbidden"), [("methods", {"bench", "datasets"}), ("datasets", {"bench", "methods"})]
)
def test_methods_and_datasets_know_only_themselves(package: str, forbidden: set[str]) -> None:
    for path in sources(package):
        assert not tops(path) & forbidden, path


@pytest.mark.parametrize("part", ["reporting", "records"])
def test_reports_and_records_know_no_torch(part: str) -> None:
    for path in sources(f"bench/{part}"):
        assert not tops(path) & {"torch", "torchvision", "methods", "datasets"}, path
        inside = {name for name in imports_of(path) if name.startswith("bench.")}
        assert all(name.startswith(("bench.records", "bench.reporting", "bench.spec.lookup")) for name in inside), path


@pytest.mark.parametrize("package", PACKAGES)
def test_heavy_optional_packages_are_imported_where_they_are_used(package: str) -> None:
    for path in sources(package):
        top_level = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top_level for alias in node.names} | {
            node.module or "" for node in top_level if isinstance(node, ast.ImportFrom)
        }
        assert not {name.split(".")[0] for name in names} & {"ray", "optuna", "cvxpy", "torchjd", "LibMTL"}, path


def test_datasets_is_ours_beside_another_package_of_that_name(tmp_path: Path) -> None:
    rival = tmp_path / "site" / "datasets"
    rival.mkdir(parents=True)
    (rival / "__init__.py").write_text("raise ImportError('the other datasets')")
    done = subprocess.run(
        [sys.executable, "-c", "import bench, datasets; print(datasets.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{rival.parent}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()) == ROOT / "datasets" / "__init__.py"


def test_every_package_is_shipped() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    shipped = set(config["options"]["packages"].split())
    present = {
        str(path.parent.relative_to(ROOT)).replace(os.sep, ".")
        for p in PACKAGES
        for path in sources(p)
        if path.name == "__init__.py"
    }
    assert shipped == present


def test_top_level_is_as_agreed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in tracked.stdout.split()}
    agreed = {"setup.cfg", "bench", "methods", "datasets", "results", "reports", "tests", "run_all.sh"}
    assert agreed <= top | {"results", "reports"}
    others = {"README.md", "CHANGELOG.md", "pyproject.toml", "setup.py", "constraints.txt", "docs", ".ci", ".gitignore"}
    assert top - agreed <= others
    assert not [
        name for name in tracked.stdout.split() if name.startswith(("results/", "reports/")) and name.endswith(".py")
    ]


def test_every_row_is_complete() -> None:
    for name, weighting in WEIGHTINGS.items():
        made = weighting.factory()
        assert weighting.label and weighting.paper and isinstance(made, Weighting), name
        assert dataclasses.is_dataclass(made) and weighting.factory.__doc__
        assert ("Deviations: none" in weighting.factory.__doc__) == (weighting.deviations == "none"), name
    for name, architecture in ARCHITECTURES.items():
        assert architecture.label and architecture.paper and architecture.factory(), name
    for name, method in METHODS.items():
        assert method.architecture in ARCHITECTURES and method.weighting in WEIGHTINGS, name
    for name, info in DATASETS.items():
        assert info.backbone in BACKBONES and info.head in HEADS and info.how and info.source, name
        keys = [task.key for task in info.tasks]
        assert len(set(keys)) == len(keys), name
    for table in (WEIGHTINGS, ARCHITECTURES, METHODS, DATASETS):
        labels = [row.label for row in table.values()]
        assert len(set(labels)) == len(labels)


def test_the_problems_of_the_paper() -> None:
    assert [len(DATASETS[name].tasks) for name in ("office31", "officehome", "nyuv2", "celeba")] == [3, 4, 3, 40]
    assert [task.outputs for task in DATASETS["nyuv2"].tasks] == [13, 1, 3]
    assert list(METHODS)[:9] == ["ew", "uw", "gradnorm", "mgda", "pcgrad", "imtl", "cagrad", "nash_mtl", "normal"]

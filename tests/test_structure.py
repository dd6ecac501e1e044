"""The shape of the project: who imports whom, and that nothing is half registered."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from bench import ROOT
from bench.__main__ import COMMANDS
from datasets import DATASETS
from methods import ARCHITECTURES, METHODS, WEIGHTINGS
from methods.architectures.backbones import BACKBONES
from methods.architectures.heads import HEADS
from methods.contract import Weighting

PACKAGES = ("bench", "methods", "datasets")
# From top to bottom: a package imports only from lines below its own, and a command from any package.
LAYERS = (
    ("forecasting", "hardware_check"),
    ("inspection", "profiling", "exchange"),
    ("cli",),
    ("launch", "analyses", "inventory"),
    ("engine", "reporting", "tuning"),
    ("spec",),
    ("methods", "datasets", "records", "processes"),
)
WITHOUT_TORCH = (
    "bench.reporting",
    "bench.records",
    "bench.processes",
    "bench.spec.lookup",
    "bench.analyses.toy.table",
    "bench.analyses.toy.figure",
    "bench.analyses.error_rates",
    "bench.analyses.relations.agreement",
    "bench.analyses.relations.page",
    "bench.analyses.relations.figure",
)
HEAVY = {"cvxpy", "torchjd", "LibMTL", "optuna", "tensorboard", "ray", "submitit"}
LONGEST_FUNCTION = 50
# Words of this project's former dialect, each with a letter in brackets so that this line doesn't match itself.
DIALECT = re.compile(
    r"\b([t]rainee|[p]ass(es)? ahead|[w]ay back|[a]head and back|[l]aps?|[c]ontestants?|[w]hoever|[n]aming_faults|"
    r"[a]new|[m]end(ed|s)?)\b",
    re.IGNORECASE,
)


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def layer_of(module: str) -> int | None:
    """The index in LAYERS of a module of ours; -1 for a command, None for any other module."""
    top, _, rest = module.partition(".")
    name = rest.split(".")[0] if top == "bench" else top
    if f"bench.{name}" in COMMANDS:
        return -1
    return next((index for index, names in enumerate(LAYERS) if name in names), None)


def test_the_root_of_bench_holds_commands_and_packages() -> None:
    modules = {path.stem for path in (ROOT / "bench").glob("*.py")} - {"__init__", "__main__"}
    assert {f"bench.{name}" for name in modules} == set(COMMANDS)
    packages = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert packages == {name for names in LAYERS for name in names} - {"methods", "datasets"}


def test_imports_point_downwards() -> None:
    """So there is no cycle between packages."""
    for path in sources("bench"):
        own = layer_of(module_of(path))
        if own is None:  # bench itself
            continue
        for name in imports_of(path):
            other = layer_of(name)
            inside = name.split(".")[:2] == module_of(path).split(".")[:2]
            assert other is None or inside or other > own, f"{path} imports {name}"


def test_methods_and_datasets_know_only_themselves() -> None:
    for package, others in (("methods", {"bench", "datasets"}), ("datasets", {"bench", "methods"})):
        for path in sources(package):
            assert not tops(path) & others, path


def test_reports_and_records_import_no_torch() -> None:
    modules = [
        module_of(path)
        for path in sources("bench")
        if module_of(path).startswith(tuple(f"{name}." for name in WITHOUT_TORCH)) or module_of(path) in WITHOUT_TORCH
    ]
    assert len(modules) > 15
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "torchvision", "methods", "datasets"} & set(done.stdout.split())
    # Nor do they import any of it within a function.
    for path in (*sources("bench/reporting"), *sources("bench/records")):
        assert not tops(path) & {"torch", "torchvision", "methods", "datasets"}, path


def test_heavy_optional_packages_are_imported_where_they_are_used() -> None:
    for path in (path for package in PACKAGES for path in sources(package)):
        top_level = [node for node in tree_of(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top_level for alias in node.names} | {
            node.module or "" for node in top_level if isinstance(node, ast.ImportFrom)
        }
        assert not {name.split(".")[0] for name in names} & HEAVY, path


def test_no_test_imports_another() -> None:
    for path in sources("tests"):
        assert not [name for name in imports_of(path) if name.split(".")[-1].startswith("test_")], path


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef))


def test_no_function_is_long() -> None:
    for path in (path for package in PACKAGES for path in sources(package)):
        for function in functions(path):
            assert function.end_lineno is not None
            lines = function.end_lineno - function.lineno + 1
            assert lines <= LONGEST_FUNCTION, f"{path}: {function.name} has {lines} lines"


def test_datasets_is_ours_beside_another_package_of_that_name(tmp_path: Path) -> None:
    rival = tmp_path / "site" / "datasets"
    rival.mkdir(parents=True)
    (rival / "__init__.py").write_text("raise ImportError('the other datasets')")
    done = subprocess.run(
        [sys.executable, "-c", "import bench, importlib.util as u; print(u.find_spec('datasets').origin)"],
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


def test_extras_are_those_in_use() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert set(config["options.extras_require"]) == {"dev", "peers", "parquet", "tensorboard", "tune", "cluster"}


def test_tables_may_be_assigned_to() -> None:
    """The README adds rows to them; a type checker refuses that for a read-only Mapping."""
    expected = {"methods": {"WEIGHTINGS", "ARCHITECTURES", "METHODS"}, "datasets": {"DATASETS"}}
    for package, names in expected.items():
        annotations = {
            node.target.id: ast.unparse(node.annotation)
            for node in tree_of(ROOT / package / "__init__.py").body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        for name in names:
            assert annotations.get(name, "").startswith("dict["), f"annotate {package}.{name} as dict[...]"


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


def test_code_docs_and_tests_use_the_words_of_the_field() -> None:
    folders = (*PACKAGES, "tests", "docs")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    files += [ROOT / name for name in ("README.md", "CHANGELOG.md", "run_all.sh", "setup.cfg", "setup.py")]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(files)
        if path.suffix in {".py", ".md", ".j2", ".yaml", ".sh", ".cfg"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if DIALECT.search(line) and '"contestant"' not in line  # a key in old records of measured steps
    ]
    assert not found, "\n".join(found)

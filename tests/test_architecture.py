"""docs/architecture.md names modules and functions that exist."""

from __future__ import annotations

import importlib
import re

from bench import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_dotted_name_exists() -> None:
    names = set(re.findall(r"`((?:bench|methods|datasets)(?:\.\w+)+)`", PAGE))
    assert len(names) > 15
    for name in names:
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name


def test_every_path_exists() -> None:
    for path in re.findall(r"`((?:bench|methods|datasets|tests|docs)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path


def test_every_package_of_bench_is_described() -> None:
    for folder in (ROOT / "bench").iterdir():
        if (folder / "__init__.py").exists():
            assert f"`{folder.name}`" in PAGE, folder.name

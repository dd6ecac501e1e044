"""Digests of the source code of methods: whether a weighting or an architecture is still what a run executed.

Comments, docstrings, type annotations and layout don't count. Nor does what a method doesn't use: from the definition
of its class, names are followed through `methods`, and only the definitions that they reach are part of the digest.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "methods"
_LENGTH = 16  # hexadecimal digits of a digest
# What a name stands for that is a whole module, and the statements of a module that define nothing.
_EVERYTHING, _STATEMENTS = "", "*"
# Fields of a syntax tree that don't change what the code computes.
_WITHOUT_EFFECT = frozenset({"ctx", "kind", "type_comment", "annotation", "returns"})

Place = tuple[str, str]  # a module and a name in it

Sources = Mapping[str, str]  # by module, its text


@dataclass(frozen=True)
class _Module:
    """definitions: the statements that define each name at the top level. imports: what imported names stand for."""

    definitions: Mapping[str, list[ast.stmt]]
    imports: Mapping[str, Place]


def read_sources(root: Path) -> dict[str, str]:
    """The text of every module of `methods` in a checkout, by its dotted name."""
    texts = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        texts[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return texts


def code_digest(name: str, sources: Sources) -> str:
    """The digest of a definition, "methods.weightings.cagrad.CAGrad"; "" if there is none, or it can't be parsed."""
    module, _, definition = name.rpartition(".")
    if module not in sources:
        return ""
    try:
        forms = _reached(module, definition, sources)
    except (SyntaxError, ValueError, RecursionError):
        return ""
    return hashlib.sha256(json.dumps(forms, sort_keys=True).encode()).hexdigest()[:_LENGTH] if forms else ""


def _reached(module: str, definition: str, sources: Sources) -> dict[str, Any]:
    """The forms of all definitions that one needs, itself included."""
    forms: dict[str, Any] = {}
    seen: set[Place] = set()
    waiting: list[Place] = [(module, definition)]
    while waiting:
        place = waiting.pop()
        if place in seen or place[0] not in sources:
            continue
        seen.add(place)
        module, name = place
        found = _parsed(sources[module])
        if name != _EVERYTHING and name not in found.definitions:
            waiting.append(found.imports.get(name, (f"{module}.{name}", _EVERYTHING)))
            continue
        names = [*found.definitions] if name == _EVERYTHING else [name, _STATEMENTS]
        for one in names:
            used: set[str] = set()
            forms[f"{module}.{one}"] = [_form(statement, used) for statement in found.definitions.get(one, ())]
            waiting += [(module, other) for other in used if other in found.definitions]
            waiting += [found.imports[other] for other in used if other in found.imports]
    return forms


@cache
def _parsed(text: str) -> _Module:
    tree = ast.parse(text)
    definitions: dict[str, list[ast.stmt]] = {}
    imports: dict[str, Place] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.update(_imported(node))
    for statement in tree.body:
        if not isinstance(statement, ast.Import | ast.ImportFrom) and not _is_docstring(statement):
            for name in [*_bound(statement)] or [_STATEMENTS]:
                definitions.setdefault(name, []).append(statement)
    return _Module(definitions, imports)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Place]]:
    """The names that an import binds."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, (node.module or "", alias.name)
        else:
            yield alias.asname or alias.name.partition(".")[0], (alias.name, _EVERYTHING)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top level defines."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)):
            yield name


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _form(node: Any, used: set[str]) -> Any:
    """What a part of a syntax tree says, the same in every version of Python; adds the names in it to `used`."""
    if isinstance(node, ast.Name):
        used.add(node.id)
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if name not in _WITHOUT_EFFECT]
        return [type(node).__name__, *([name, _form(value, used)] for name, value in fields if value not in (None, []))]
    if isinstance(node, list):
        return [_form(part, used) for part in node if not (isinstance(part, ast.stmt) and _is_docstring(part))]
    return repr(node)

"""YAML from people: what is read, and what is refused in one line, quickly."""

from __future__ import annotations

import time

import pytest
import yaml

from bench.spec.safe_yaml import DEEPEST, LONGEST_TEXT, in_one_line, load
from bench.spec.study import STUDIES

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


def test_plain_values_are_read_as_before() -> None:
    for text in ("", "3", "1.5e-3", "[1, 2.5, a]", "{a: {b: [true, null]}}", "'yes'", ".inf", "x"):
        assert load(text) == yaml.safe_load(text)
    for path in STUDIES.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert load(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "line 1, column 5: expected no anchors and aliases, found 'a0'"),
        ("*a", "line 1, column 1: expected no anchors and aliases, found 'a'"),
        ("&a [*a]", "expected no anchors and aliases"),
        ("[" * 100_000, f"expected at most {DEEPEST} lists or mappings within each other"),
        ("- " * 100_000, f"expected at most {DEEPEST} lists or mappings within each other"),
        ("a: " * 100, "mapping values are not allowed"),
        ("{a: 1, a: 2}", "line 1, column 8: expected each key once, found 'a' again"),
        ("b:\n  a: 1\n  a: 2", "line 3, column 3: expected each key once, found 'a' again"),
        ("1: x\n0x1: y", "expected each key once, found 1 again"),
        ("[1]: x\n{}: y", "unhashable key"),
        ("9" * 5_000, "expected a value, found what can't be converted"),
        ("2024-99-99", "expected a value, found what can't be converted"),
        ("!!int x", "expected a value, found what can't be converted"),
        ("!!bool x", "expected a value, found what can't be converted"),
        ("!!timestamp x", "expected a value, found what can't be converted"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a\x00", "special characters are not allowed"),
        ("x" * (LONGEST_TEXT + 1), "expected at most 1,000,000 characters, found 1,000,001"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_the_rest_is_refused_in_one_line(text: str, message: str) -> None:
    start = time.perf_counter()
    with pytest.raises(yaml.YAMLError) as error:
        load(text)
    assert time.perf_counter() - start < 2
    line = in_one_line(error.value)
    assert message in line and "\n" not in line and len(line) < 300


def test_depth_is_counted_where_it_is() -> None:
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert load(f"[{deep[2:-2]}, {deep[2:-2]}, 1]")
    load(deep)
    with pytest.raises(yaml.YAMLError):
        load(f"[{deep}]")

"""YAML from people: plain values only, of bounded size and depth."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

LONGEST_TEXT = 1_000_000  # characters
DEEPEST = 20  # lists and mappings within each other; a study needs seven


def load(text: str) -> Any:
    """The value of a YAML document; None for an empty text.

    Aliases are refused, since a few lines of them can stand for billions of values; so are repeated keys, since all but
    the last would be lost.

    Raises:
        yaml.YAMLError: invalid YAML, a tag, alias or repeated key, or beyond LONGEST_TEXT or DEEPEST.
    """
    if len(text) > LONGEST_TEXT:
        raise yaml.YAMLError(f"expected at most {LONGEST_TEXT:,} characters, found {len(text):,}")
    try:
        return yaml.load(text, Loader=_Loader)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        # From PyYAML's constructors, for instance for the date 2024-99-99 or an integer of 5,000 digits.
        raise yaml.YAMLError(f"expected a value, found what can't be converted ({error})") from error


def in_one_line(error: yaml.YAMLError) -> str:
    """What is wrong, after its line and column if they are known."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {' '.join((error.problem or 'invalid').split())}"
    return " ".join(str(error).split())


class _Loader(yaml.SafeLoader):
    """Refuses what a text that a person writes has no need of."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        if getattr(event, "anchor", None) is not None:
            problem = f"expected no anchors and aliases, found {event.anchor!r:.80}"
            raise ComposerError(None, None, problem, mark)
        if self.depth == DEEPEST and isinstance(event, yaml.CollectionStartEvent):
            problem = f"expected at most {DEEPEST} lists or mappings within each other, found more"
            raise ComposerError(None, None, problem, mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A decimal, hexadecimal or binary number; YAML reads 010 as 8 and 1:30 as 90, which nobody means here."""
        digits = node.value.replace("_", "").lstrip("+-")
        if ":" in digits or re.fullmatch("0[0-9]+", digits):
            problem = f"expected a decimal number, found {node.value!r:.80}, which YAML reads in another base"
            raise ConstructorError(None, None, problem, node.start_mark)
        construct = super().construct_yaml_int if node.tag.endswith(":int") else super().construct_yaml_float
        return construct(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):  # the others are refused below
                if key in seen:
                    mark: Any = key_node.start_mark
                    raise ConstructorError(None, None, f"expected each key once, found {key!r:.80} again", mark)
                seen.add(key)
        return super().construct_mapping(node, deep)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)

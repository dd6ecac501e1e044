"""The page as HTML: one file that asks nothing of a server or the network.

Every text is escaped by the template. A content security policy allows the page's own style and script only, by their
hashes, so that a text that got through would have no effect.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench.records.files import atomic_write_text
from bench.records.plain_text import one_line
from bench.reporting.index import MARK
from bench.reporting.page.colours import dark_rules
from bench.reporting.page.content import Page
from bench.reporting.render import TEMPLATES

PAGE = "index.html"


def write_page(out: Path, page: Page) -> Path:
    """Writes index.html; returns its path."""
    return atomic_write_text(out / PAGE, page_html(page))


def page_html(page: Page) -> str:
    """The page; the same content gives the same bytes."""
    rules = dark_rules(drawing.svg for drawing in page.drawings)
    style = f"\n{_asset('page.css')}\n{rules}\n"
    script = f"\n{_asset('page.js')}"
    return _environment().get_template("page.html.j2").render(
        page=page,
        mark=MARK,
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=embedded_json(page.data.as_json()),
    )  # fmt: skip


def policy(style: str, script: str) -> str:
    """The content security policy of a page with this style and script."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def embedded_json(content: Any) -> Markup:
    """JSON for a script element: nothing in it ends the element, and it has no numbers that JSON doesn't have."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _printable(value: object) -> object:
    """Text from records without what can't be printed; text of the page itself (Markup) as it is."""
    return one_line(value) if type(value) is str else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["svg"] = Markup
    return environment

"""Figures as SVG inside the page: small, without style attributes, and with ids that occur once on the page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from bench.reporting.figures.style import STYLE, draw

# Pixels of the page for a point of the figure: text of 7 points is then as large as that of tables.
SCALE = 1.7
# Corners of a line with more points than this, as those over training, are given in tenths of a point.
SHORT_LINE = 20
# Shorter texts, such as numbers, have room to be wider in the font of the page.
SHORT_TEXT = 3
# Matplotlib's style attributes, which a strict content security policy forbids, become attributes of these names.
STYLES = frozenset({
    "fill", "fill-opacity", "fill-rule", "font-size", "font-style", "font-weight", "opacity", "stroke",
    "stroke-dasharray", "stroke-dashoffset", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit",
    "stroke-opacity", "stroke-width", "text-anchor",
})  # fmt: skip
# Elements inherit all of them from their group but this one.
INHERITED = STYLES - {"opacity"}
GEOMETRY = frozenset({"d", "height", "points", "transform", "width", "x", "y"})
_NUMBER = re.compile(r"-?\d+\.\d+")
_CORNER = re.compile(r"([ML]) (-?[\d.]+) (-?[\d.]+)")
_LINE = re.compile(rf"({_CORNER.pattern} ?){{{SHORT_LINE},}}z?")
_REFERENCE = re.compile(r"#([\w.-]+)")


@dataclass(frozen=True)
class Drawing:
    """A figure on the page. svg: its element."""

    title: str
    svg: str


def drawing(figure: Figure, title: str, prefix: str) -> Drawing:
    """The figure as an element of the page; the same figure gives the same text.

    prefix: of its ids, for this figure only.
    """
    root = ElementTree.fromstring(_svg(figure))
    references = [found for element in root.iter() for found in _references(element)]
    ids = {old: f"{prefix}{place}" for place, old in enumerate(dict.fromkeys(references))}
    width, height = (round(SCALE * float(number)) for number in root.get("viewBox", "0 0 1 1").split()[2:])
    new = Element("svg", viewBox=root.get("viewBox", ""), width=str(width), height=str(height))
    new.extend([_kept(child, ids) for group in root for child in _flat(group)])
    _define_once(new)
    for element in new.iter():
        _hoist(element)
    return Drawing(title, ElementTree.tostring(new, encoding="unicode").replace(" />", "/>"))


def _svg(figure: Figure) -> bytes:
    """As matplotlib writes it: text as text, no background, ids that depend on the content only."""
    file = io.BytesIO()
    draw(figure, file, "svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _references(element: Element) -> Iterator[str]:
    for name, value in element.attrib.items():
        if _local(name) == "href" or value.startswith("url("):
            yield from _REFERENCE.findall(value)


def _flat(element: Element) -> Iterator[Element]:
    """The elements that show something, without groups that only have a name."""
    tag = _local(element.tag)
    if tag in ("metadata", "style"):
        return
    if tag in ("g", "defs"):
        element[:] = [one for child in element for one in _flat(child)]
        if tag == "g" and not element.attrib.keys() - {"id"}:
            yield from element
            return
        if not len(element):
            return
    if tag == "path" and element.get("style") == "fill: none":  # a frame without a line
        return
    yield element


def _kept(element: Element, ids: dict[str, str]) -> Element:
    new = Element(_local(element.tag), _attributes(element, ids))
    new.text = element.text if new.tag in ("text", "tspan") else None
    if new.tag == "text" and not len(element) and new.text and len(new.text) > SHORT_TEXT:
        # As wide as it was laid out, whatever font the browser has; the script of the page scales the letters, too.
        new.set("textLength", f"{_width(new.text, new.get('font-size', ''), new.get('font-weight', 'normal')):.1f}")
    new.extend([_kept(child, ids) for child in element])
    if new.tag == "defs":
        for marker in new.findall("path"):  # where it is used, it is styled again
            marker.attrib = {name: value for name, value in marker.attrib.items() if name not in STYLES}
    return new


def _define_once(root: Element) -> None:
    """Leaves the first of equal markers: matplotlib defines them again for every colour."""
    firsts: dict[str, str] = {}
    same: dict[str, str] = {}
    for definitions in root.iter("defs"):
        for marker in definitions.findall("path"):
            name, form = marker.get("id", ""), marker.get("d", "")
            if firsts.setdefault(form, name) != name:
                same[f"#{name}"] = f"#{firsts[form]}"
                definitions.remove(marker)
    for element in root.iter():
        if (place := element.get("href", "")) in same:
            element.set("href", same[place])
        for empty in [child for child in element if child.tag == "defs" and not len(child)]:
            element.remove(empty)


def _attributes(element: Element, ids: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in ((_local(name), value) for name, value in element.attrib.items()):
        if name == "style":
            pairs = (part.split(":", 1) for part in value.split(";") if ":" in part)
            found |= {key.strip(): text.strip() for key, text in pairs if key.strip() in STYLES}
        elif name == "id":
            found |= {"id": ids[value]} if value in ids else {}
        elif name == "href" or value.startswith("url("):
            found[name] = _REFERENCE.sub(lambda match: f"#{ids[match[1]]}", value)
        elif name in GEOMETRY:
            found[name] = _rounded(value)
        else:
            found[name] = value
    if found.get("transform", "").startswith(("rotate(0 ", "rotate(-0 ")):
        del found["transform"]
    return found


@lru_cache(maxsize=10_000)
def _width(text: str, size: str, weight: str) -> float:
    """The width in points of a text of this size, as "8.5px", in the font of the figures."""
    font = FontProperties(family=STYLE["font.family"], size=float(size.removesuffix("px")), weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width)


def _rounded(text: str) -> str:
    """Its numbers in tenths of a point, with single spaces; a long line as steps from corner to corner."""
    flat = " ".join(text.split())
    if _LINE.fullmatch(flat):
        return _steps(flat)
    return _NUMBER.sub(lambda match: f"{float(match[0]):.1f}".rstrip("0").rstrip("."), flat)


def _steps(line: str) -> str:
    """Corners in tenths of a point, each relative to the one before, so that the digits stay few."""
    parts, before = [], (0, 0)
    for letter, *numbers in _CORNER.findall(line):
        at = (round(10 * float(numbers[0])), round(10 * float(numbers[1])))
        steps = [f"{(here - there) / 10:g}" for here, there in zip(at, before, strict=True)]
        parts.append(f"{letter.lower()}{steps[0]} {steps[1]}".replace(" -", "-"))
        before = at
    return "".join(parts) + ("z" if line.endswith("z") else "")


def _hoist(group: Element) -> None:
    """Moves what all elements of a group share to the group: markers differ in their place only."""
    if group.tag != "g" or len(group) < 2:
        return
    first = group[0]
    for name in sorted(INHERITED & first.attrib.keys()):
        if name not in group.attrib and all(child.get(name) == first.get(name) for child in group):
            group.set(name, first.get(name, ""))
            for child in group:
                del child.attrib[name]


def _local(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition("}")[2]

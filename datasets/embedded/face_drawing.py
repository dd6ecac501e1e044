"""Drawn faces in which each of CelebA's 40 attributes is visible, also when resized to 48x48 pixels.

This module has the proportions of a face and the order in which it is drawn. Its parts are in `face_features` and
`face_hair`, the drawing primitives in `face_shapes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from datasets.embedded import face_features as features
from datasets.embedded import face_hair as hair
from datasets.embedded.face_shapes import Attributes, Colour, Look, Pen, Variation, mirrored, mix, shade, smooth, vivid

WIDTH, HEIGHT = 89, 109  # half of CelebA's 178x218
SUPERSAMPLING = 3
SPECKLES = 170

LIGHT_SKIN, DARK_SKIN, PALE_SKIN = (238, 192, 154), (148, 98, 66), (255, 243, 240)
PIGMENTS: Mapping[str, Colour] = {
    "Black_Hair": (26, 23, 30),
    "Blond_Hair": (240, 208, 105),
    "Brown_Hair": (104, 62, 32),
    "Gray_Hair": (168, 170, 176),
}
OTHER_HAIR: Colour = (196, 78, 30)  # red, for which CelebA has no label either
CROOKEDNESS = 0.26  # slope of the eyes, and opposite slope of the mouth, if a face is not Attractive
BLUR_RADIUS = 2.4


def draw(attributes: Attributes, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Picture (HEIGHT, WIDTH, 3) of a face. The random draws don't depend on the attributes."""
    variation = _sample_variation(rng)
    look = _look(attributes, variation)
    image = _background(variation)
    pen = _pen(image, variation)
    lean = 0.0 if attributes["Attractive"] else CROOKEDNESS * variation.side
    upper, lower = replace(pen, slope=lean), replace(pen, slope=-lean)
    hair.behind(pen, attributes, look)
    features.body(pen, attributes, look, variation)
    features.head(pen, attributes, look)
    hair.beard(pen, attributes, look, variation)
    features.cheeks(pen, attributes, look)
    features.wrinkles(pen, attributes, look)
    features.mouth(lower, attributes, look, variation)
    hair.mustache(lower, attributes, look)
    features.nose(lower, attributes, look)
    hair.in_front(pen, attributes, look)
    features.eyes(upper, attributes, variation)
    features.eyebrows(upper, attributes, look)
    features.glasses(upper, attributes, look)
    hair.hat(pen, attributes, look, variation)
    features.earrings(pen, attributes, look, variation)
    return _photograph(image, attributes["Blurry"], variation)


def _sample_variation(rng: np.random.Generator) -> Variation:
    return Variation(
        turn=rng.uniform(-5, 5),
        scale=rng.uniform(0.95, 1.04),
        shift=rng.uniform(-2.5, 2.5, 2),
        side=int(rng.choice((-1, 1))),
        width=rng.uniform(-1, 1),
        skin=rng.random(),
        hues=rng.random(6),
        backdrop=rng.uniform((0.1, 0.45), (0.5, 0.95), (2, 2)),
        hair=rng.uniform(0.88, 1.12),
        lips=int(rng.integers(len(features.LIPSTICKS))),
        light=rng.uniform(-0.13, 0.13, 2),
        brightness=rng.uniform(0.9, 1.08),
        speckles=rng.random((SPECKLES, 2)),
        noise=rng.normal(0, 4, (HEIGHT, WIDTH, 3)),
    )


def _pen(image: Image.Image, variation: Variation) -> Pen:
    cos, sin = np.cos(np.deg2rad(variation.turn)), np.sin(np.deg2rad(variation.turn))
    matrix = SUPERSAMPLING * variation.scale * np.array(((cos, -sin), (sin, cos)))
    centre = SUPERSAMPLING * (np.array((WIDTH / 2, HEIGHT / 2)) + variation.shift)
    return Pen(ImageDraw.Draw(image, "RGBA"), matrix, centre - matrix @ (0, HEIGHT / 2))


def _look(has: Attributes, variation: Variation) -> Look:
    colour = shade(next((pigment for name, pigment in PIGMENTS.items() if has[name]), OTHER_HAIR), variation.hair)
    chin = 82.0 + 5 * has["Oval_Face"]
    width = 25.5 + variation.width + 4.5 * has["Chubby"] - 4 * has["Oval_Face"]
    jaw = (0.96 if has["Male"] else 0.86) + 0.06 * has["Chubby"] - 0.04 * has["Oval_Face"]
    tip = (0.70 if has["Male"] else 0.46) + 0.10 * has["Chubby"] - 0.10 * has["Oval_Face"]
    brow = ((0, 16), (0.6 * width, 19.5), (0.95 * width, 33), (width, 50))
    outline = smooth(mirrored((*brow, (jaw * width, 65), (tip * width, chin - 4), (0, chin))))
    return Look(
        skin=PALE_SKIN if has["Pale_Skin"] else mix(LIGHT_SKIN, DARK_SKIN, variation.skin),
        hair=colour,
        whiskers=shade(colour, 0.72),
        half_width=width,
        chin=chin,
        outline=outline[outline[:, 0] >= -1e-9],
    )


def _background(variation: Variation) -> Image.Image:
    top, bottom = (vivid(variation.hues[0], *tone) for tone in variation.backdrop)
    small = np.linspace(top, bottom, HEIGHT)[:, None, :].repeat(2, axis=1)
    size = (SUPERSAMPLING * WIDTH, SUPERSAMPLING * HEIGHT)
    return Image.fromarray(small.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)


def _photograph(image: Image.Image, blurry: bool, variation: Variation) -> NDArray[np.uint8]:
    small = image.reduce(SUPERSAMPLING)
    if blurry:
        small = small.filter(ImageFilter.GaussianBlur(BLUR_RADIUS))
    across, down = np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT)
    light = variation.brightness + variation.light[0] * across + variation.light[1] * down[:, None]
    lit = np.asarray(small, dtype=np.float64) * light[:, :, None] + variation.noise
    pixels: NDArray[np.uint8] = lit.clip(0, 255).round().astype(np.uint8)
    return pixels

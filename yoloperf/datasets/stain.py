"""Draws blood cells as a microscope sees them: light passes through every layer, so absorbances add up.

An image is light * exp(-absorbance) per channel (Beer-Lambert), which gives overlapping cells their translucency.
Absorbances are in BGR order. Their levels were measured on BCCD's 205 training images, as -ln(pixel / background).
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# 32-bit floats, but for what slips in from a scalar
Field = NDArray[Any]  # [height, width]: a quantity a pixel
Absorbance = NDArray[Any]  # [height, width, 3]

BACKGROUND = np.array([197, 203, 200], np.float32)  # mean of BCCD's backgrounds; 3 from image to image
RED_CELL = np.array([0.22, 0.245, 0.085], np.float32)  # thickest ring of a red cell: measured 0.163, 0.235, 0.096; warmer by eye
NUCLEUS = np.array([-0.02, 0.74, 0.43], np.float32)  # white cell's nucleus
CYTOPLASM = np.array([0.01, 0.15, 0.07], np.float32)  # a granulocyte's
EOSINOPHIL = np.array([0.20, 0.34, 0.06], np.float32)  # orange-pink granules, by eye
PLATELET = np.array([-0.01, 0.46, 0.36], np.float32)  # measured 0.32, 0.25 over its box, denser in the middle


@dataclass(frozen=True)
class Shape:
    """Outline of a cell: an ellipse with centre (x, y) in pixels; axis_ratio of the first axis, turned by angle, to the second."""

    x: float
    y: float
    diameter: float
    axis_ratio: float
    angle: float


@dataclass(frozen=True)
class Patch:
    """The pixels around a shape that lie in the image: rho is 0 at the centre and 1 on the outline, u and v are the axes in radii."""

    rows: slice
    columns: slice
    rho: Field
    u: Field
    v: Field
    radius: float

    def disc(self, softness: float = 1.5) -> Field:
        """1 inside the outline, 0 outside, with an edge `softness` pixels wide."""
        inside: Field = np.clip((1 - self.rho) * self.radius / softness + 0.5, 0, 1)
        return inside

    def box(self) -> tuple[int, int, int, int]:
        """xmin, ymin, xmax, ymax around the pixels inside the outline, as continuous corners."""
        inside = self.rho <= 1
        x = np.flatnonzero(inside.any(axis=0)) + self.columns.start
        y = np.flatnonzero(inside.any(axis=1)) + self.rows.start
        return int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1


def outline(rng: np.random.Generator, shape: Shape, size: tuple[int, int], roughness: float) -> Patch:
    """Patch of a shape whose radius wavers by about `roughness` around the ellipse, in an image of size (width, height)."""
    reach = shape.diameter * 0.75
    columns = slice(max(0, int(shape.x - reach)), min(size[0], int(shape.x + reach) + 1))
    rows = slice(max(0, int(shape.y - reach)), min(size[1], int(shape.y + reach) + 1))
    dx = np.arange(columns.start, columns.stop, dtype=np.float32)[None] + np.float32(0.5 - shape.x)
    dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + np.float32(0.5 - shape.y)
    cos, sin = np.float32(np.cos(shape.angle)), np.float32(np.sin(shape.angle))
    radius = shape.diameter / 2
    stretch = np.float32(radius * np.sqrt(shape.axis_ratio))
    shrink = np.float32(radius / np.sqrt(shape.axis_ratio))
    u, v = (cos * dx + sin * dy) / stretch, (cos * dy - sin * dx) / shrink
    theta = cv2.phase(u, v)
    wave = np.ones_like(theta)
    for order, share in ((2, 0.6), (3, 1.0), (5, 0.5)):
        wave += np.float32(rng.normal(0, roughness * share)) * np.cos(order * theta + np.float32(rng.uniform(0, 6.28)))
    return Patch(rows, columns, cv2.magnitude(u, v) / wave, u, v, radius)


def red_cell(rng: np.random.Generator, patch: Patch) -> Absorbance:
    """A biconcave disc: pale centre, thick ring."""
    rho2 = np.minimum(patch.rho, 1) ** 2
    edge = np.sqrt(1 - rho2)
    # mean erythrocyte cross-section, Evans and Fung, Microvascular Research 4 (1972) 335, scaled to a maximum of 1
    biconcave = edge * (0.207161 + 2.002558 * rho2 - 1.122762 * rho2 * rho2) / 0.66
    flat = np.sqrt(1 - rho2**4)
    pallor = 1.35 * rng.beta(0.9, 0.8)
    # the pale spot is seldom in the middle: a tilted cell is thicker on one side
    tilt = 1 + rng.normal(0, 0.15) * patch.u + rng.normal(0, 0.15) * patch.v
    thickness = (pallor * biconcave + (1 - pallor) * flat) * tilt * np.clip(rng.normal(1, 0.25), 0.55, 1.7)
    # light refracted at the border: a thin dark line with a bright one outside
    border = (patch.rho - 1) * patch.radius
    rim = 0.35 * np.exp(-(((border + 2.5) / 2) ** 2)) - 0.13 * np.exp(-(((border - 2.5) / 2) ** 2))
    stain = RED_CELL * rng.normal(1, 0.05, 3).astype(np.float32)
    return _layer(patch.disc() * thickness + rim, stain)


def white_cell(rng: np.random.Generator, patch: Patch, kind: str) -> Absorbance:
    """A stained white cell; kind is neutrophil, eosinophil or lymphocyte."""
    disc = patch.disc(3)
    grain = 1 + 0.35 * _texture(rng, patch, 3)
    if kind == "lymphocyte":
        nucleus = _blob(patch, [(rng.normal(0, 0.05), rng.normal(0, 0.05), rng.uniform(0.82, 0.9))])
        body = _layer(disc * grain, CYTOPLASM * 2)
    elif kind == "eosinophil":
        turn = rng.uniform(0, 6.28)
        nucleus = _lobes(rng, patch, 2, turn, 0.37, 0.36)
        granules = np.clip(0.65 + 0.35 * _texture(rng, patch, 4), 0.1, 1.5)
        body = _layer(disc * granules, EOSINOPHIL)
    else:
        nucleus = _lobes(rng, patch, int(rng.integers(3, 6)), rng.uniform(0, 6.28), rng.uniform(0.38, 0.46), 0.25)
        body = _layer(disc * grain, CYTOPLASM)
    chromatin = 1 + 0.16 * _texture(rng, patch, 9)
    dark = 1.5 if kind == "lymphocyte" else 1.0
    nucleus = nucleus * disc
    return body * (1 - 0.7 * nucleus[..., None]) + _layer(nucleus * chromatin * dark * rng.normal(1, 0.1), NUCLEUS)


def platelet(rng: np.random.Generator, patch: Patch) -> Absorbance:
    """A small granular purple blob, denser in the middle."""
    body = patch.disc(6) * (0.35 + 0.9 * np.exp(-2 * patch.rho**2))
    return _layer(body * np.clip(0.8 + 0.4 * _texture(rng, patch, 4), 0, 2) * np.clip(rng.normal(1, 0.2), 0.5, 1.5), PLATELET)


def speck(patch: Patch) -> Absorbance:
    """Dirt on the slide out of focus: a dark ring with a bright centre. It has no label, as in real pictures."""
    ring = np.exp(-(((patch.rho - 0.7) / 0.22) ** 2)) - 0.5 * np.exp(-((patch.rho / 0.4) ** 2))
    return _layer(ring, np.array([0.16, 0.2, 0.2], np.float32))


def expose(rng: np.random.Generator, absorbance: Absorbance, scale: float) -> NDArray[np.uint8]:
    """Light the slide unevenly from below, put it slightly out of focus and add the sensor's noise: a BGR image."""
    height, width = absorbance.shape[:2]
    x, y = np.meshgrid(np.linspace(-1, 1, 16), np.linspace(-1, 1, 12))
    lamp = 1.01 + rng.normal(0, 0.02) * x + rng.normal(0, 0.02) * y - rng.uniform(0.01, 0.05) * (x * x + y * y)
    light = cv2.resize(lamp.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    lamp_colour = BACKGROUND + np.float32(rng.normal(0, 2.5)) + rng.normal(0, 1.5, 3).astype(np.float32)
    image: Field = np.exp(-absorbance) * light[..., None] * lamp_colour
    image = cv2.GaussianBlur(image, (0, 0), max(0.3, rng.uniform(0.9, 1.6) * scale))
    noise = rng.standard_normal((height // 2 + 1, width // 2 + 1, 3), np.float32)
    image = image + 2.2 * cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(image, 0, 255).astype(np.uint8)


def _layer(amount: Field, stain: Field) -> Absorbance:
    return amount.astype(np.float32)[..., None] * stain


def _texture(rng: np.random.Generator, patch: Patch, grain: int) -> Field:
    """Smooth random field with a standard deviation of about 1 and structures of `grain` pixels at BCCD's scale."""
    height, width = patch.rho.shape
    coarse = rng.standard_normal((height // grain + 2, width // grain + 2), np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _lobes(rng: np.random.Generator, patch: Patch, count: int, turn: float, distance: float, radius: float) -> Field:
    """Lobes along an arc, joined by thin bridges: the nucleus of a granulocyte."""
    span = 2.2 if count == 2 else rng.uniform(3.6, 4.8)
    angles = turn + np.linspace(0, span, count) + rng.normal(0, 0.12, count)
    circles = []
    for angle in angles:
        away = distance * rng.normal(1, 0.12)
        circles.append((away * np.cos(angle), away * np.sin(angle), radius * rng.normal(1, 0.14)))
    for (x0, y0, r0), (x1, y1, _) in zip(circles, circles[1:], strict=False):
        circles.append(((x0 + x1) / 2, (y0 + y1) / 2, 0.62 * r0))
    return _blob(patch, circles)


def _blob(patch: Patch, circles: list[tuple[float, float, float]]) -> Field:
    """Smooth union of circles given in radii of the cell: 1 inside, 0 outside."""
    density = np.zeros_like(patch.rho)
    for x, y, radius in circles:
        distance2 = (patch.u - np.float32(x)) ** 2 + (patch.v - np.float32(y)) ** 2
        density += np.exp(np.float32(6) * (1 - distance2 / np.float32(radius * radius)).clip(-2, 1))
    inside: Field = np.clip(np.log(density + 1e-6) * np.float32(patch.radius / 30) + 0.5, 0, 1)
    return inside

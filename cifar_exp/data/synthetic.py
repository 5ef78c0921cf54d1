"""Synthetic images of ten shapes, drawn by a seeded generator.

Each image shows one large shape with a random position, rotation and colour, on a cloudy background
with up to two small shapes of other classes and pixel noise. All classes have the same mean area
and distribution of colours, so that only the outline distinguishes them. A horizontal flip does not
change the class.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_exp.data.dataset import Dataset, Split

Array = NDArray[np.floating[Any]]

_SEED = 20_240_601  # arbitrary; another value changes the images and so the results of runs
_SIDE = 32
_CHUNK = 500  # images drawn at once, in about 50 MB


def load(train_size: int, test_size: int) -> Dataset:
    """Generate the data set; the same sizes give the same bits.

    Args:
        train_size: number of training images; class sizes differ by at most one.
        test_size: number of test images; class sizes differ by at most one.

    Returns:
        10 classes, images of 32 x 32 pixels.
    """
    train = _split(train_size, np.random.default_rng([_SEED, 0]))
    test = _split(test_size, np.random.default_rng([_SEED, 1]))
    return Dataset(train, test, tuple(outlines()))


def _split(count: int, rng: np.random.Generator) -> Split:
    labels = rng.permutation(np.arange(count) % len(outlines()))
    images = np.empty((count, _SIDE, _SIDE, 3), np.uint8)
    for start in range(0, count, _CHUNK):
        images[start : start + _CHUNK] = _draw(labels[start : start + _CHUNK], rng)
    return Split(torch.from_numpy(images), torch.from_numpy(labels))


def _draw(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    count = len(labels)
    # easy images make high learning rates trainable, hard ones keep the accuracy below 1
    hardness = rng.uniform(0, 1, count)
    base = rng.uniform(0.2, 0.35, (count, 1, 1, 3))
    canvas = _clouds(base, 0.28 * hardness, rng)
    for _ in range(2):
        other = (labels + rng.integers(1, 10, count)) % 10
        size = rng.uniform(0.08, 0.2, count) * rng.integers(0, 2, count)
        _paint(canvas, other, size, np.ones(count), base, rng)
    _paint(canvas, labels, rng.uniform(0.35, 0.55, count), hardness, base, rng)
    noise = rng.standard_normal(canvas.shape, np.float32)
    canvas += noise * (0.015 + 0.14 * hardness).astype(np.float32)[:, None, None, None]
    return (canvas.clip(0, 1) * 255).round().astype(np.uint8)


def _clouds(base: Array, strength: Array, rng: np.random.Generator) -> Array:
    """Draw smooth backgrounds: random colours on a 4 x 4 grid, interpolated bilinearly."""
    position = np.linspace(0, 3, _SIDE)
    weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(4))).astype(np.float32)
    knots = rng.standard_normal((len(base), 4, 4, 3)) * strength[:, None, None, None]
    grid = (base + knots).astype(np.float32)
    clouds: Array = np.einsum("yi,xj,nijc->nyxc", weights, weights, grid, optimize=True)
    return clouds


def _paint(
    canvas: Array,
    labels: NDArray[np.int64],
    size: Array,
    hardness: Array,
    base: Array,
    rng: np.random.Generator,
) -> None:
    """Draw one shape onto each image; a size of 0 draws nothing.

    Args:
        canvas: images with values of about [0, 1], changed in place.
        labels: classes of the shapes.
        size: radius of the disk of the same area, in half image sides.
        hardness: scale of offset, rotation and transparency, in [0, 1].
        base: mean colours of the backgrounds.
        rng: generator of positions, angles and colours.

    Shape:
        canvas `(N, 32, 32, 3)`, labels, size and hardness `(N,)`, base `(N, 1, 1, 3)`.
    """
    count = len(labels)
    centre = rng.uniform(-0.65, 0.65, (2, count)) * hardness
    angle = rng.uniform(-1.6, 1.6, count) * hardness
    faint = hardness[:, None, None, None]
    colour = base + rng.uniform(0.22, 0.6, base.shape) * (1 - 0.6 * faint)
    distance = _distance(labels, centre, angle, np.maximum(size, 1e-3))
    cover = np.clip(0.5 - distance * (_SIDE / 2), 0, 1) * (size > 0)[:, None, None]
    alpha = cover[..., None].astype(np.float32)
    canvas += alpha * (colour.astype(np.float32) - canvas)


def _distance(
    labels: NDArray[np.int64],
    centre: Array,
    angle: Array,
    size: Array,
) -> Array:
    """Return the signed distance of each pixel from the outline, in half image sides."""
    axis = (np.arange(_SIDE, dtype=np.float32) + 0.5) / (_SIDE / 2) - 1
    cosine, sine, scale, left, top = (
        values.astype(np.float32)[:, None, None]
        for values in (np.cos(angle), np.sin(angle), size, *centre)
    )
    x, y = axis[None, None, :] - left, axis[None, :, None] - top
    x, y = (x * cosine + y * sine) / scale, (y * cosine - x * sine) / scale
    distance = np.empty_like(x)
    for label, outline in enumerate(outlines().values()):
        chosen = labels == label
        distance[chosen] = outline(x[chosen], y[chosen])
    pixels: Array = distance * scale
    return pixels


def outlines() -> dict[str, Callable[[Array, Array], Array]]:
    """Return the signed distance functions of the shapes, all with the area of the unit disk."""
    return {
        "disk": lambda x, y: np.hypot(x, y) - 1,
        "square": lambda x, y: _box(x, y, 0.886, 0.886),
        "triangle": lambda x, y: np.maximum(np.abs(x) * 0.866 - y * 0.5, y) - 0.777,
        "ring": lambda x, y: np.abs(np.hypot(x, y) - 1) - 0.25,
        "frame": lambda x, y: np.abs(_box(x, y, 0.9, 0.9)) - 0.218,
        "cross": lambda x, y: np.minimum(_box(x, y, 1.27, 0.36), _box(x, y, 0.36, 1.27)),
        "star": _star,
        "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 1.33, 1.05 - np.hypot(x - 0.85, y)),
        "heart": _heart,
        "flower": lambda x, y: 0.8 * (np.hypot(x, y) - 0.97 - 0.34 * np.cos(4 * np.arctan2(y, x))),
    }


def _box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    box: Array = np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)
    return box


def _star(x: Array, y: Array) -> Array:
    """Fold the plane into a tenth of the star, where the outline is a straight line."""
    radius, angle = np.hypot(x, y), np.arctan2(x, -y)
    fold = np.abs((angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    star: Array = radius * (0.384 * np.cos(fold) + 0.923 * np.sin(fold)) - 0.592
    return star


def _heart(x: Array, y: Array) -> Array:
    """Join a square with half a disk on each of two adjacent sides."""
    u, v = 0.707 * (x - y), -0.707 * (x + y)
    disks = np.minimum(np.hypot(u - 0.663, v), np.hypot(u, v - 0.663)) - 0.663
    heart: Array = np.minimum(_box(u, v, 0.663, 0.663), disks)
    return heart

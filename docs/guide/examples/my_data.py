"""Images of one's own: `python train.py data._target_=my_data.patterns`."""

import numpy as np

CLASSES = ["horizontal", "vertical", "checks", "rings"]


def patterns(train_size=2000, test_size=500, size=32, noise=60):
    """Make noisy images of four patterns, each still itself in a mirror.

    A function that reads files looks the same: what counts is what it returns.

    Args:
        train_size: number of training images: `data.train_size=4000`.
        test_size: number of test images.
        size: pixels a side.
        noise: standard deviation of the noise, of 255.

    Returns:
        Training images with labels, test images with labels, and the names of the classes.
        Images are uint8 of shape (N, size, size, 3); labels are positions in the names.
    """
    rng = np.random.default_rng(0)  # the same images every time
    train = _draw(train_size, size, noise, rng)
    test = _draw(test_size, size, noise, rng)
    return train, test, CLASSES


def _draw(count, size, noise, rng):
    labels = rng.integers(len(CLASSES), size=count)
    y, x = 0.8 * np.mgrid[:size, :size][:, None] + rng.uniform(0, 6, (2, count, 1, 1))
    patterns = [np.sin(y), np.sin(x), np.sin(y) * np.sin(x), np.sin(np.hypot(y - 15, x - 15))]
    chosen = np.stack(patterns)[labels, np.arange(count)]
    images = 128 + 60 * chosen[..., None] + noise * rng.standard_normal((count, size, size, 3))
    return images.clip(0, 255).astype(np.uint8), labels

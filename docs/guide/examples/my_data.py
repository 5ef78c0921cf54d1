"""Custom images: `python train.py data._target_=my_data.patterns`."""

import numpy as np

CLASSES = ["horizontal", "vertical", "checks", "rings"]


def patterns(train_size=2000, test_size=500, size=32, noise=60):
    """Generate noisy images of four patterns that keep their class when flipped.

    A function that reads files returns the same types.

    Args:
        train_size: number of training images: `data.train_size=4000`.
        test_size: number of test images.
        size: height and width in pixels.
        noise: standard deviation of the noise, in pixel values of 0 to 255.

    Returns:
        Training images with labels, test images with labels, and the names of the classes.
        Images are uint8 of shape (N, size, size, 3); labels are indices of the names.
    """
    rng = np.random.default_rng(0)  # the same images in every call
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

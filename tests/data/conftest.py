from pathlib import Path

import pytest

from tests.data.image_files import noise, save


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Create two classes, each with two training images and one test image."""
    folder = tmp_path / "pets"
    for i, name in enumerate(("cat", "dog")):
        save(folder / "train" / name / "a.png", noise(3 * i))
        save(folder / "train" / name / "b.png", noise(3 * i + 1))
        save(folder / "test" / name / "a.png", noise(3 * i + 2))
    return folder

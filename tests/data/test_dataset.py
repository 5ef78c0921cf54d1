import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cifar_exp.data.dataset import Dataset, Split, balanced
from cifar_exp.data.settings import Cifar10, ImageFolder, Synthetic
from cifar_exp.data.sources import check, load
from cifar_exp.errors import UserError
from tests.reliability.hold import LONGEST_WAIT_SECONDS

ROOT = Path(__file__).parents[2]


def split_of(labels: list[int]) -> Split:
    """Create one-pixel images whose red value is their index."""
    images = torch.zeros(len(labels), 1, 1, 3, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(len(labels))
    return Split(images, torch.tensor(labels))


def indices(split: Split) -> list[int]:
    return [int(value) for value in split.images[:, 0, 0, 0]]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (3, [0, 3, 5]),  # the first of class 0, of class 1 and of class 2
        (5, [0, 1, 3, 4, 5]),  # and the second of class 0 and of class 1
        (7, [0, 1, 2, 3, 4, 5, 6]),  # class 0 has no fourth image; class 2 has a second
    ],
)
def test_a_limit_is_balanced_and_keeps_the_order(limit: int, expected: list[int]) -> None:
    split = balanced(split_of([0, 0, 0, 1, 1, 2, 2, 2]), limit, "data.limit_train")
    assert indices(split) == expected


def test_a_limit_above_the_smallest_class_is_filled_from_larger_classes() -> None:
    # class 1 has one image, so three images are from class 0
    split = balanced(split_of([0, 0, 1, 0, 0]), 4, "data.limit_train")
    assert split.labels.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("limit", [None, 4, 5])
def test_no_limit_or_a_high_one_keeps_all_images(limit: int | None) -> None:
    split = split_of([1, 0, 1, 0])
    assert balanced(split, limit, "data.limit_test") is split


def test_a_limit_below_the_number_of_classes_is_refused_with_its_key() -> None:
    with pytest.raises(
        UserError, match=r"data\.limit_test=2: expected at least 3, the number of classes"
    ):
        balanced(split_of([0, 1, 2, 2]), 2, "data.limit_test")


@pytest.mark.parametrize("config", [Cifar10(limit_train=9), Synthetic(limit_train=9)])
def test_a_limit_that_is_too_low_is_refused_before_images_are_read(
    config: Cifar10 | Synthetic,
) -> None:
    # both have ten classes
    with pytest.raises(UserError, match=r"data\.limit_train=9"):
        check(config)


def test_a_missing_folder_is_refused_before_images_are_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: folder not found"):
        check(ImageFolder(root=str(tmp_path / "none")))


def test_valid_settings_pass_the_check() -> None:
    check(Synthetic(limit_train=10, batch_size=10))


def test_a_batch_larger_than_the_training_set_is_refused() -> None:
    with pytest.raises(UserError, match=r"got 41\. Set batch_size=40 or a smaller"):
        check(Synthetic(train_size=50, limit_train=40, batch_size=41))


def test_limits_apply_to_what_is_loaded(tmp_path: Path) -> None:
    config = Synthetic(train_size=40, test_size=30, limit_train=20, limit_test=10)
    dataset = load(config, tmp_path)
    assert dataset.train.labels.bincount().tolist() == [2] * 10
    assert dataset.test.labels.bincount().tolist() == [1] * 10


def test_the_digest_covers_images_labels_and_class_names() -> None:
    base = Dataset(split_of([0, 1]), split_of([1, 0]), ("cat", "dog"))
    others = [
        dataclasses.replace(base, train=split_of([1, 0])),
        dataclasses.replace(base, test=split_of([0, 1])),
        dataclasses.replace(base, classes=("cat", "cow")),
        dataclasses.replace(base, test=Split(base.test.images + 1, base.test.labels)),
    ]
    assert len({dataset.digest() for dataset in [base, *others]}) == 5
    assert base.digest() == dataclasses.replace(base).digest()


def test_synthetic_images_need_no_import_of_torchvision() -> None:
    # its import takes longer than the data set
    program = (
        "import sys; from pathlib import Path\n"
        "from cifar_exp.data.settings import Synthetic\n"
        "from cifar_exp.data.sources import check, load\n"
        "config = Synthetic(train_size=64, test_size=10)\n"
        "check(config), load(config, Path('unused'))\n"
        "sys.exit('torchvision' in sys.modules or 'PIL' in sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    assert subprocess.run(command, timeout=LONGEST_WAIT_SECONDS, cwd=ROOT).returncode == 0

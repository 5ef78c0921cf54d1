"""Validation images, held out of the training images and evaluated instead of test images."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from cifar_exp.config.identity import differences, run_id, run_name, settings
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.dataset import Split, held_out
from cifar_exp.data.settings import ImageFolder, Synthetic
from cifar_exp.data.sources import check, load
from cifar_exp.errors import UserError
from tests.conftest import TINY, CommandLine, read_rows, read_state


def numbered(labels: list[int]) -> Split:
    """Create distinct images."""
    count = len(labels)
    return Split(torch.arange(count).view(count, 1, 1, 1), torch.tensor(labels))


def test_the_same_fraction_of_each_class_is_held_out() -> None:
    split = numbered([0] * 100 + [1] * 40 + [2] * 20)
    left, chosen = held_out(split, 0.1)
    assert chosen.labels.bincount().tolist() == [10, 4, 2]
    assert left.labels.bincount().tolist() == [90, 36, 18]
    images = torch.cat([left.images, chosen.images]).flatten()
    assert sorted(images.tolist()) == list(range(160))
    # chosen at random
    assert chosen.images.flatten()[:10].tolist() != list(range(10))


def test_the_held_out_images_are_always_the_same() -> None:
    split = numbered([0, 1] * 20)
    first, again = (held_out(split, 0.25)[1].images.flatten().tolist() for _ in range(2))
    # a constant: other images would change the results of a run id
    assert first == again == [6, 10, 11, 13, 16, 27, 30, 34, 35, 37]


def test_held_out_images_are_training_images_that_replace_the_test_images(tmp_path) -> None:
    usual = load(Synthetic(train_size=100, test_size=50), tmp_path)
    held = load(Synthetic(train_size=100, test_size=50, val_fraction=0.2), tmp_path)
    assert (len(held.train), len(held.test)) == (80, 20)
    training_images = {image.numpy().tobytes() for image in usual.train.images}
    assert {image.numpy().tobytes() for image in held.test.images} <= training_images


def test_fewer_held_out_images_than_classes_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"at least one image of each of the 10 classes, got 5 of 100"
    ):
        check(Synthetic(train_size=100, val_fraction=0.05))


def test_a_batch_is_at_most_the_remaining_training_images() -> None:
    check(Synthetic(train_size=100, val_fraction=0.2, batch_size=80))
    with pytest.raises(UserError, match="expected at most the 80 training images"):
        check(Synthetic(train_size=100, val_fraction=0.2, batch_size=81))


def test_a_run_without_held_out_images_has_the_id_from_before_the_setting() -> None:
    plain, held = RunConfig(), RunConfig(data={"name": "cifar10", "val_fraction": 0.1})
    assert run_id(plain) == "bcde3c0931"
    assert "data.val_fraction" not in settings(plain)
    assert run_id(held) != run_id(plain)
    assert differences(held) == {"data.val_fraction": 0.1}
    assert run_name(held) == "val_fraction=0.1"


def test_a_run_names_the_split_that_it_was_evaluated_on(train: CommandLine) -> None:
    output = train(*TINY, "epochs=1", "data.val_fraction=0.25")
    assert "complete: validation accuracy" in output
    assert read_state(train.only_run)["evaluated_on"] == "validation"
    assert "val_fraction=0.25" in train.only_run.name
    (row,) = read_rows(train.only_run)
    assert {"val_loss", "val_accuracy", "val_seconds"} < set(row)
    assert not any(key.startswith("test_") for key in row)
    output = train("-m", *TINY, "epochs=1", "data.val_fraction=0.25")
    assert "validation accuracy    95 % interval" in output
    (sweep,) = train.runs.parent.glob("*/sweep.json")
    report = (sweep.parent / "report.md").read_text()
    assert "final validation accuracy" in report
    assert "test accuracy" not in report
    header = (sweep.parent / "results.csv").read_text().splitlines()[0]
    assert "best_val_accuracy" in header
    assert "test_" not in header
    assert "Test images are not used" in report


def test_an_image_of_a_rare_class_is_held_out() -> None:
    split = numbered([0] * 60 + [1] * 3 + [2] * 60)
    left, chosen = held_out(split, 0.1)
    assert chosen.labels.bincount().tolist() == [6, 1, 5]
    assert left.labels.bincount().tolist() == [54, 2, 55]


def test_validation_images_that_are_training_images_are_counted(tmp_path: Path) -> None:
    for split, images in (("train", 10), ("test", 1)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(images):  # the cats are one image, the dogs differ
                colour = (0, 0, 0) if name == "cat" else (number + 1, 0, 0)
                Image.new("RGB", (32, 32), colour).save(folder / f"{number}.png")
    config = ImageFolder(root=str(tmp_path / "photos"), val_fraction=0.2, batch_size=8)
    assert load(config, tmp_path / "cache").shared == 2  # the cats of four held-out images


def test_a_class_of_one_image_is_named(tmp_path: Path) -> None:
    for name, count in (("cat", 30), ("dog", 1), ("owl", 30)):
        for split, images in (("train", count), ("test", 1)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(images):
                Image.new("RGB", (32, 32), (number, 0, 0)).save(folder / f"{number}.png")
    config = ImageFolder(root=str(tmp_path / "photos"), val_fraction=0.1, batch_size=8)
    for refuse in (lambda: check(config), lambda: load(config, tmp_path / "cache")):
        with pytest.raises(UserError, match="class 'dog' has one training image and needs"):
            refuse()
    check(config.model_copy(update={"val_fraction": 0.0}))

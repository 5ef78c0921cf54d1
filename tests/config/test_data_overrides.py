"""Data overrides for a trained run."""

from pathlib import Path

import pytest

from cifar_exp.config.data_overrides import with_data
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.settings import Cifar10, ImageFolder, Synthetic
from cifar_exp.errors import UserError

TRAINED = RunConfig(data=Cifar10(root="here", normalize="channels", test_flip=True, limit_test=50))


def test_no_overrides_change_nothing() -> None:
    assert with_data(TRAINED, []) == TRAINED


def test_an_override_changes_only_its_key() -> None:
    changed = with_data(TRAINED, ["data.limit_test=null", "data.root='my photos'"])
    assert changed == TRAINED.model_copy(
        update={"data": TRAINED.data.model_copy(update={"limit_test": None, "root": "my photos"})}
    )


def test_another_data_set_keeps_the_preprocessing_but_not_the_limits() -> None:
    changed = with_data(TRAINED, ["data.test_size=100", "data=synthetic"], {"image_size": 64})
    assert changed.data == Synthetic(normalize="channels", test_flip=True, test_size=100)


def test_an_image_folder_has_the_default_size_unless_it_is_overridden() -> None:
    overrides = ["data=image_folder", "data.root=${oc.env:HOME}/photos"]
    assert with_data(TRAINED, overrides, {"image_size": 64}).data == ImageFolder(
        root="${oc.env:HOME}/photos", image_size=64, normalize="channels", test_flip=True
    )
    data = with_data(TRAINED, [*overrides, "data.image_size=128"], {"image_size": 64}).data
    assert isinstance(data, ImageFolder)
    assert data.image_size == 128


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.lr=1"], "optimizer.lr=1: expected data=OPTION or data.KEY=VALUE"),
        (["data.root.x=1"], "data.root.x=1: expected data=OPTION"),
        (["data.limit_test=1,2"], "data.limit_test=1,2: expected data=OPTION"),
        (["~data.root"], "~data.root: expected data=OPTION"),
        (["+data.root=x"], r"\+data.root=x: expected data=OPTION"),
        (["nonsense"], "nonsense: expected data=OPTION"),
        (["data.root='"], "data.root=': expected data=OPTION"),
        (["data.root=photos (1)"], r"needs quotes: 'data\.KEY=\"VALUE\"'$"),
        (["data.limt_test=1"], "data.limt_test: unknown setting"),
        (["data.limit_test=x"], 'data.limit_test: expected an integer, got "x"'),
        (["data=cats"], "data.name: expected one of 'cifar10', 'cifar100', 'image_folder'"),
        (["data=[1]"], "data.name: "),
        (["data=image_folder"], "data.root: missing value"),
        (["data.name=synthetic"], "data.root: data=synthetic does not have this setting"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_overrides_that_are_not_about_data_are_rejected(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_data(TRAINED, overrides)


def test_a_test_fraction_is_dropped_for_a_folder_that_contains_test_images(tmp_path: Path) -> None:
    for name in ("split/train/cat", "split/test/cat", "flat/cat"):
        (tmp_path / name).mkdir(parents=True)
    trained = RunConfig(data=ImageFolder(root="photos", test_fraction=0.3))

    def fraction(*overrides: str) -> float:
        data = with_data(trained, overrides).data
        assert isinstance(data, ImageFolder)
        return data.test_fraction

    split, flat = (f"data.root={tmp_path / name}" for name in ("split", "flat"))
    assert fraction(split) == 0.2  # the default
    assert fraction(split, "data.test_fraction=0.3") == 0.3  # typed, so it is refused later
    # the images may be those of the run, moved: another fraction selects other test images
    assert fraction(flat) == 0.3
    assert fraction("data.limit_test=50") == 0.3

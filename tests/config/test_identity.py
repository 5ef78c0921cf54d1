"""Ids and names of runs.

If a golden id changes, existing runs are not found any more. Increase identity.VERSION only if the
same settings compute something else.
"""

from typing import Any

import pytest

from cifar_exp.config.identity import config_id, differences, identity, run_id, run_name, varied
from cifar_exp.config.schema import Logger, Paths, RunConfig, Training
from cifar_exp.data.settings import CustomData, ImageFolder, Synthetic
from cifar_exp.models.settings import CustomModel, Model
from cifar_exp.optimizers import Adam, Sgd
from cifar_exp.schedulers import MultiStep

CUSTOM_MODEL = CustomModel.model_validate({"_target_": "my_package.MyNet", "depth": 3})
CUSTOM_DATA = CustomData.model_validate({"_target_": "my_package.my_data", "root": "/scans/mine"})
GOLDEN = {
    "the article": (RunConfig(), "bcde3c0931"),
    "another seed": (RunConfig(seed=1), "badb7a1813"),
    "another optimizer": (RunConfig(optimizer=Sgd()), "15664eea86"),
    "another network": (RunConfig(model=Model(name="resnet18")), "1445794cd3"),
    "custom code": (RunConfig(model=CUSTOM_MODEL, data=CUSTOM_DATA), "9b145289f2"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_ids_do_not_change(name: str) -> None:
    config, expected = GOLDEN[name]
    assert run_id(config) == expected


def test_a_setting_that_was_added_later_varies_between_its_default_and_another_value() -> None:
    runs = [RunConfig(model=Model(dropout=0.5, dropout_in_testing=on)) for on in (False, True)]
    assert varied(runs) == ["model.dropout_in_testing"]
    assert run_name(runs[1]) == "dropout=0.5,dropout_in_testing=True"
    assert "dropout_in_testing" not in identity(runs[0])["model"]


def test_an_integer_has_the_same_id_as_the_equal_float() -> None:
    assert run_id(RunConfig(optimizer=Adam(lr=1))) == run_id(RunConfig(optimizer=Adam(lr=1.0)))


def test_optional_metrics_do_not_change_the_id() -> None:
    assert run_id(RunConfig(metrics=("grad_norm",))) == run_id(RunConfig())
    assert run_name(RunConfig(metrics=("grad_norm",))) == "article"


def test_paths_logging_and_rerun_do_not_change_the_id() -> None:
    moved = RunConfig(paths=Paths(results="r", logs="l"), logger=Logger(), rerun=True)
    assert run_id(moved) == run_id(RunConfig())


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(seed=1),
        RunConfig(precision="fp32"),
        RunConfig(device="cpu"),
        RunConfig(model=Model(dropout=0.5)),
        RunConfig(training=Training(epochs=99)),
        RunConfig(data=Synthetic()),
        RunConfig(optimizer=Adam(eps=1e-7)),
    ],
)
def test_settings_that_affect_the_result_change_the_id(config: RunConfig) -> None:
    assert run_id(config) != run_id(RunConfig())


@pytest.mark.parametrize(
    "other",
    [
        {"model": {"_target_": "my_package.MyNet", "depth": 4}},
        {"model": {"_target_": "my_package.MyNet"}},
        {"model": {"_target_": "my_package.Other", "depth": 3}},
        {"data": {"_target_": "my_package.my_data", "root": "/scans/others"}},
        {"data": {"_target_": "my_package.my_data", "root": "/scans/mine", "batch_size": 8}},
    ],
)
def test_settings_of_custom_code_change_the_id(other: dict[str, Any]) -> None:
    custom = {"model": CUSTOM_MODEL, "data": CUSTOM_DATA}
    changed = {name: type(custom[name]).model_validate(content) for name, content in other.items()}
    assert run_id(RunConfig(**(custom | changed))) != run_id(RunConfig(**custom))


def test_replicates_differ_only_in_the_seed() -> None:
    assert config_id(RunConfig(seed=1)) == config_id(RunConfig(seed=2))
    assert config_id(RunConfig(training=Training(epochs=1))) != config_id(RunConfig())


def test_relative_and_absolute_image_folders_have_the_same_id(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = RunConfig(data=ImageFolder(root="photos"))
    assert run_id(relative) == run_id(RunConfig(data=ImageFolder(root=str(tmp_path / "photos"))))


def test_the_default_test_fraction_is_not_part_of_the_id() -> None:
    assert "test_fraction" not in identity(RunConfig(data=ImageFolder(root="/a")))["data"]
    default, other = ImageFolder(root="/a"), ImageFolder(root="/a", test_fraction=0.3)
    assert run_id(RunConfig(data=default)) != run_id(RunConfig(data=other))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (RunConfig(), "article"),
        (RunConfig(optimizer=Adam(lr=0.1), seed=1), "lr=0.1,seed=1"),
        # the default learning rate of sgd is not a difference
        (RunConfig(optimizer=Sgd()), "optimizer=sgd"),
        (RunConfig(optimizer=Sgd(lr=0.1)), "optimizer=sgd,lr=0.1"),
        (RunConfig(scheduler=MultiStep(milestones=(5, 8))), "milestones=5-8"),
        (
            RunConfig(data=ImageFolder(root="/home/me/my photos")),
            "data=image_folder,root=my-photos",
        ),
        (RunConfig(model=Model(name="resnet18", width=0.5)), "model=resnet18,width=0.5"),
        (
            RunConfig(model=CUSTOM_MODEL, data=CUSTOM_DATA),
            "model=my_package.MyNet,depth=3,data=my_package.my_data,root=mine",
        ),
    ],
)
def test_a_run_is_named_after_its_differences_from_the_article(
    config: RunConfig, name: str
) -> None:
    assert run_name(config) == name


def test_a_long_name_is_cut_between_settings() -> None:
    config = RunConfig(
        data=ImageFolder(root="x" * 60, limit_train=1000, limit_test=1000),
        optimizer=Adam(lr=0.123456789, weight_decay=0.123456789),
    )
    assert len(run_name(config)) <= 80  # names of folders have a maximum length
    assert run_name(config).split(",")[0] == "lr=0.123456789"
    assert len(differences(config)) > len(run_name(config).split(","))

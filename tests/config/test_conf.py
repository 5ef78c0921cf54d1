"""The files of conf/ agree with the schema."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from cifar_exp.config.keys import levels_in
from cifar_exp.config.load import from_yaml, load_config, to_yaml
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.settings import Cifar10, Cifar100, Synthetic
from cifar_exp.errors import UserError
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Adam, AdamW, Lion, RmsProp, Sgd
from cifar_exp.schedulers import Constant, Cosine, MultiStep, OneCycle
from cifar_exp.sections import Section

CONF = Path(__file__).parents[2] / "conf"


def composed(*overrides: str) -> RunConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return load_config(compose("config", list(overrides)))


def test_files_that_cannot_be_read_define_no_short_name(tmp_path: Path) -> None:
    for group, content in {
        "lr": b"# @package _global_\noptimizer:\n  lr: 0.1\n",
        "broken": b"# @package _global_\noptimizer:\n\tlr: 0.1\n",
        "latin": "# @package _global_\ntitle: M\u00fcller\n".encode("latin-1"),
    }.items():
        (tmp_path / group).mkdir()
        (tmp_path / group / "one.yaml").write_bytes(content)
    (tmp_path / "lr" / "broken.yaml").write_text("# @package _global_\n\t")
    assert levels_in(tmp_path) == {"lr": "optimizer.lr"}


def test_the_default_settings_are_the_articles() -> None:
    config = composed()
    assert config == RunConfig()
    assert (config.model.name, config.model.dropout) == ("vgg16", 0)
    assert config.optimizer == Adam(lr=0.001, weight_decay=0)
    assert config.scheduler == MultiStep(milestones=(75, 150), gamma=0.5)
    assert (config.data.batch_size, config.data.augment) == (64, "flip")
    assert config.training.epochs == 100


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer=adam", Adam()),
        ("optimizer=adamw", AdamW()),
        ("optimizer=sgd", Sgd()),
        ("optimizer=rmsprop", RmsProp()),
        ("optimizer=lion", Lion()),
        ("scheduler=multistep", MultiStep()),
        ("scheduler=constant", Constant()),
        ("scheduler=cosine", Cosine()),
        ("scheduler=onecycle", OneCycle()),
        ("data=cifar10", Cifar10()),
        ("data=cifar100", Cifar100()),
        ("data=synthetic", Synthetic()),
        ("model=resnet18", Model(name="resnet18")),
        *((f"model=vgg{depth}", Model(name=f"vgg{depth}")) for depth in (11, 13, 16, 19)),
    ],
)
def test_an_option_has_the_defaults_of_its_class(override: str, expected: Section) -> None:
    assert getattr(composed(override), override.split("=")[0]) == expected


@pytest.mark.parametrize(
    ("group", "section", "key", "levels"),
    [
        ("lr", "optimizer", "lr", {"article": 1e-3, "high": 1e-2, "too_high": 0.1, "low": 1e-4}),
        (
            "batch_size",
            "data",
            "batch_size",
            {"online": 1, "small": 16, "article": 64, "large": 256, "very_large": 1024},
        ),
        ("dropout", "model", "dropout", {"none": 0, "light": 0.2, "half": 0.5}),
        (
            "weight_decay",
            "optimizer",
            "weight_decay",
            {"none": 0, "light": 1e-4, "medium": 1e-3, "strong": 1e-2, "too_strong": 0.1},
        ),
        ("epochs", "training", "epochs", {"short": 10, "article": 100}),
    ],
)
def test_a_group_has_the_levels_of_the_article(
    group: str, section: str, key: str, levels: dict[str, float]
) -> None:
    assert {file.stem for file in (CONF / group).iterdir()} == set(levels)
    for level, value in levels.items():
        assert getattr(getattr(composed(f"{group}={level}"), section), key) == value


def test_an_optimizer_keeps_its_default_learning_rate() -> None:
    assert composed("optimizer=sgd").optimizer.lr == 0.05


def test_the_command_line_overrides_an_experiment() -> None:
    assert composed("experiment=demo").training.epochs == 5
    assert composed("experiment=demo", "epochs=article").training.epochs == 100


def test_no_option_name_is_a_number() -> None:
    # glob(*) parses option names as values
    for file in CONF.rglob("*.yaml"):
        assert isinstance(yaml.safe_load(file.stem), str)


def test_settings_are_unchanged_by_writing_and_reading_config_yaml() -> None:
    config = composed("optimizer=sgd", "scheduler.milestones=[3,5]", "seed=7")
    assert from_yaml(to_yaml(config)) == config


def test_a_wrong_value_is_reported_with_key_and_expected_type() -> None:
    with pytest.raises(UserError, match=r"^optimizer\.lr: expected a number, got \"abc\"$"):
        composed("optimizer.lr=abc")


def test_three_wrong_values_are_reported_in_two_lines() -> None:
    with pytest.raises(UserError) as error:
        composed("optimizer.lr=-1", "model.dropout=3", "seed=-1")
    assert len(str(error.value).splitlines()) == 2
    assert str(error.value).endswith("(and 1 more)")

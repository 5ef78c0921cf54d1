"""Environment variables in settings are saved unresolved."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hypothesis import example, given
from hypothesis import settings as options
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cifar_exp.cli.hydra_guard import only_allowed
from cifar_exp.config.identity import run_id, run_name
from cifar_exp.config.load import FREE_TEXT, load_config, to_yaml
from cifar_exp.config.schema import Paths, RunConfig
from cifar_exp.config.study import load_studies
from cifar_exp.data.settings import ImageFolder
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path, expressions_kept, hide

CONF = Path(__file__).parents[1] / "conf"
SECRET = "s3cr3t-of-mine"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setenv("RATE", "0.25")
    monkeypatch.delenv("UNSET", raising=False)


def composed(*overrides: str) -> RunConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"), only_allowed(()):
        return load_config(compose("config", list(overrides)))


def texts_of(schema: Any, name: str = "") -> set[str]:
    """Return the names of all settings in a JSON schema that accept any text."""
    kinds = schema.get("anyOf", [schema])
    if any(kind.get("type") == "string" and not {"enum", "const"} & set(kind) for kind in kinds):
        return {name}
    inner = schema.get("properties", {}) | schema.get("$defs", {})
    return {text for key, value in inner.items() for text in texts_of(value, key)}


def test_free_text_lists_all_text_settings() -> None:
    known = {key.split(".")[1] for key in FREE_TEXT}
    # sections with custom code keep all their text
    assert texts_of(RunConfig.model_json_schema()) == known | {"_target_"}


@pytest.mark.parametrize(
    ("typed", "kept", "path"),
    [
        ("${oc.env:SECRET}", "${oc.env:SECRET}", SECRET),
        ("${oc.env:SECRET}/photos", "${oc.env:SECRET}/photos", f"{SECRET}/photos"),
        ("${oc.env:UNSET,/tmp}/photos", "${oc.env:UNSET,/tmp}/photos", "/tmp/photos"),
        ("${oc.env:UNSET,'a b'}", "${oc.env:UNSET,'a b'}", "a b"),
        ("${oc.env:UNSET,${oc.env:SECRET}}", "${oc.env:UNSET,${oc.env:SECRET}}", SECRET),
        ("${paths.results}/x", "${oc.env:SECRET}/x", f"{SECRET}/x"),
        ("${oc.decode:${oc.env:SECRET}}", "${oc.env:SECRET}", SECRET),
        # composed from parts, so that the text does not contain oc.env
        ("${oc.decode:'$\\{oc.${oc.select:no,e}nv:SECRET\\}'}", "${oc.env:SECRET}", SECRET),
        ("~/photos", "~/photos", str(Path.home() / "photos")),
        ("photos", "photos", "photos"),
    ],
)
def test_a_path_is_resolved_only_when_it_is_used(typed: str, kept: str, path: str) -> None:
    root = f'data.root="{typed}"'
    config = composed("data=image_folder", root, "paths.results=${oc.env:SECRET}")
    assert isinstance(config.data, ImageFolder)
    assert config.data.root == kept
    assert as_path(config.data.root) == Path(path)
    assert SECRET not in to_yaml(config) + run_name(config)


@options(deadline=None, derandomize=True, database=None, max_examples=200)
@given(st.text(max_size=20).filter(lambda text: "${" not in text))
@example("a\\'\\")
@example("null")
@example("1e3")
def test_any_default_is_kept(default: str) -> None:
    content = OmegaConf.create({"default": default, "path": "x${oc.env:UNSET,${default}}"})
    with expressions_kept():
        kept = content.path
    assert kept.startswith("x${oc.env:UNSET,")
    assert OmegaConf.create({"path": kept}).path == content.path == f"x{default}"


def test_numbers_and_options_are_resolved() -> None:
    config = composed('optimizer.lr="${oc.decode:${oc.env:RATE}}"', "device=${oc.env:UNSET,cpu}")
    assert config.optimizer.lr == 0.25
    assert config.device == "cpu"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("optimizer.lr=${oc.env:SECRET}", 'expected a number, got "${oc.env:SECRET}"'),
        ("seed=${paths.logs}", 'seed: expected an integer, got "${paths.logs}"'),
        ("optimizer.betas=[0.9,'${oc.env:SECRET}']", 'betas.1: expected a number, got "${oc.env:'),
        ("optimizer.name=${oc.env:SECRET}", ", got '${oc.env:SECRET}'"),
        ("device=${oc.env:SECRET}", "'cuda', got \"${oc.env:SECRET}\""),
        ("optimizer=${oc.env:SECRET}", "Could not find 'optimizer/${oc.env:SECRET}'"),
        ("hydra.job.chdir=${oc.env:SECRET}", "hydra.job.chdir: the expression has no valid value"),
        ("model='${oc.env:SECRET}'", "${oc.env:SECRET}"),
        ("data.root=${oc.env:UNSET}", "data.root: the environment variable UNSET is not set"),
        ("paths.results=${oc.env:UNSET}/x", "paths.results: the environment variable UNSET is not"),
        ("paths.cache=${data.root} data.root=${oc.env:UNSET} data=image_folder", "data.root: the"),
        ('paths.cache="${paths.${oc.env:NAME}}"', "paths.cache: expected ${oc.env:NAME} in"),
    ],
)
def test_messages_show_the_expression_instead_of_the_value(
    typed: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAME", "logs")
    with pytest.raises((UserError, HydraException)) as error:
        composed("paths.logs=${oc.env:SECRET}", *typed.split())
    assert message in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${oc.env:UNSET}/x", "the environment variable UNSET is not set; set it, or give"),
        ("${nope}", "Interpolation key 'nope' not found"),
        ("~nobody-of-that-name/x", "the home folder of this user was not found"),
        ("x" * 300, "File name too long"),
    ],
)
def test_an_invalid_path_is_reported(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        as_path(text)
    assert str(error.value).startswith(f"{text}: {message}")


def test_the_value_of_an_environment_variable_does_not_change_the_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = RunConfig(data=ImageFolder(root="${oc.env:SECRET}/photos"))
    here = run_id(config)
    monkeypatch.setenv("SECRET", "elsewhere")
    assert run_id(config) == here
    assert run_id(RunConfig(data=ImageFolder(root="${oc.env:RATE}/photos"))) != here
    assert run_name(config) == "data=image_folder,root=photos"


def test_a_study_keeps_expressions_in_texts_and_resolves_numbers() -> None:
    study = {
        "name": "mine",
        "title": "On ${oc.env:SECRET}",
        "question": "${study.title}?",
        "vary": {"data.root": ["${oc.env:SECRET}/a", "/b"]},
        "settings": {"lr": "${oc.decode:${oc.env:RATE}}"},
    }
    (loaded,) = load_studies(OmegaConf.create({"study": study}).study)
    assert loaded.title == "On ${oc.env:SECRET}"
    assert loaded.question == "On ${oc.env:SECRET}?"
    assert loaded.vary == {"data.root": ("${oc.env:SECRET}/a", "/b")}
    assert loaded.settings == {"optimizer.lr": 0.25}


def test_a_study_from_an_environment_variable_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VARY", "{data.root: [s3cr3t]}")
    study = {"name": "mine", "title": "T", "question": "Q", "vary": "${oc.decode:${oc.env:VARY}}"}
    with pytest.raises(UserError) as error:
        load_studies(OmegaConf.create({"study": study}).study)
    assert "s3cr3t" not in str(error.value)


def test_values_are_hidden_in_messages() -> None:
    config = RunConfig(
        data=ImageFolder(root="${oc.env:SECRET}/photos"), paths=Paths(logs="${oc.env:'RATE'}/logs")
    )
    error = FileNotFoundError(2, "not there", f"/{SECRET}/photos/1.png")
    assert (
        hide(f"no: {error}", config) == "no: [Errno 2] not there: '/${oc.env:SECRET}/photos/1.png'"
    )
    assert hide("in 0.25/logs", config) == "in ${oc.env:RATE}/logs"
    assert hide(SECRET, RunConfig()) == SECRET  # not used in the settings


def test_all_forms_of_a_value_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(data=ImageFolder(root="${oc.env:SECRET}"))
    monkeypatch.setenv("SECRET", "~/it's\tmine//x/")
    path = str(as_path("${oc.env:SECRET}"))
    for form in (path, repr(path)[1:-1], "~/it's\tmine//x/"):
        assert hide(f"at {form}", config) == "at ${oc.env:SECRET}"
    monkeypatch.setenv("SECRET", "ab")
    assert hide("about", config) == "about"  # too short to be hidden

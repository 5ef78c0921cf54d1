"""Valid and invalid study files."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cifar_exp.config.study import Study, load_studies
from cifar_exp.errors import UserError

CONF = Path(__file__).parents[2] / "conf"
CLAIM = {
    "says": "A larger rate ends higher.",
    "metric": "final_train_loss",
    "expects": "higher",
    "at": 0.1,
    "than": 0.01,
}
STUDY = {"name": "mine", "title": "T", "question": "Q?", "vary": {"lr": [0.1, 0.01]}}


def load(content: dict[str, Any] | list[Any]) -> list[Study]:
    return load_studies(OmegaConf.create(content))


def study(**changes: Any) -> dict[str, Any]:
    return STUDY | changes


def claim(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (CLAIM | changes).items() if value != "omitted"}


def test_a_study_has_three_seeds_and_no_claims_by_default() -> None:
    (loaded,) = load(STUDY)
    assert loaded.vary == {"optimizer.lr": (0.1, 0.01)}
    assert loaded.seeds == (0, 1, 2)
    assert loaded.settings == {}
    assert loaded.claims == ()


def test_short_names_become_dotted_keys() -> None:
    vary = {
        "lr": [1],
        "weight_decay": [1],
        "batch_size": [1],
        "dropout": [0.5],
        "epochs": [1],
        "scheduler": ["cosine"],
        "data.cutout": [8],
    }
    (loaded,) = load(study(vary=vary))
    assert list(loaded.vary) == [
        "optimizer.lr",
        "optimizer.weight_decay",
        "data.batch_size",
        "model.dropout",
        "training.epochs",
        "scheduler",
        "data.cutout",
    ]


def test_named_levels_become_their_values() -> None:
    (loaded,) = load(study(vary={"lr": ["high", 0.1]}))
    assert loaded.vary == {"optimizer.lr": (0.01, 0.1)}


def test_claims_accept_the_names_of_levels() -> None:
    claims = [claim(at="high", than="low"), claim(at=0.01, than="low")]
    (loaded,) = load(study(vary={"lr": ["low", "high"]}, claims=claims))
    assert [(claim.at, claim.than) for claim in loaded.claims] == [(0.01, 0.0001)] * 2
    with pytest.raises(UserError, match="expected `at` and `than` among the levels"):
        load(study(vary={"lr": ["low", "high"]}, claims=[claim(at="high", than="lo")]))


def test_levels_keep_their_types() -> None:
    (loaded,) = load(study(vary={"x": [1, 1.0, "1", True, None]}))
    assert [type(level) for level in loaded.vary["x"]] == [int, float, str, bool, type(None)]


def test_a_level_can_be_a_list() -> None:
    (loaded,) = load(study(vary={"scheduler.milestones": [[1], [1, 2]]}))
    assert loaded.vary == {"scheduler.milestones": ((1,), (1, 2))}


def test_claims_are_loaded_with_their_fields() -> None:
    (loaded,) = load(study(claims=[CLAIM, {**CLAIM, "expects": "same", "matters_from": 0.1}]))
    first, second = loaded.claims
    assert (first.at, first.than, first.matters_from) == (0.1, 0.01, 0)
    assert (second.expects, second.matters_from) == ("same", 0.1)
    assert first.compares_two


def test_null_can_be_a_compared_level() -> None:
    limits = {"data.limit_train": [None, 100]}
    (loaded,) = load(study(vary=limits, claims=[claim(at=None, than=100)]))
    assert loaded.claims[0].at is None


def test_the_parts_of_a_study_keep_their_order() -> None:
    parts = {"second": study(name="b"), "first": study(name="a", vary={"dropout": [0.0]})}
    assert [part.name for part in load({"parts": parts})] == ["b", "a"]


def test_values_next_to_parts_apply_to_each_part_and_its_levels_stay() -> None:
    parts = {
        "epochs": study(name="a", vary={"epochs": [1, 2]}, claims=[], settings={"dropout": 0.5}),
        "rate": study(name="b", settings={"epochs": 9}),
    }
    common = {"settings": {"epochs": 3, "batch_size": 8}, "max_seeds": 4}
    epochs, rate = load({"parts": parts, **common})
    assert epochs.settings == {"model.dropout": 0.5, "data.batch_size": 8}
    assert rate.settings == {"training.epochs": 3, "data.batch_size": 8}
    assert (epochs.max_seeds, rate.max_seeds) == (4, 4)


def test_settings_next_to_parts_replace_those_of_a_part_in_any_spelling() -> None:
    part = study(settings={"training.epochs": 9, "dropout": 0.5})
    (loaded,) = load({"parts": {"a": part}, "settings": {"epochs": 3, "model.dropout": 0.1}})
    assert loaded.settings == {"training.epochs": 3, "model.dropout": 0.1}


@pytest.mark.parametrize("common", [{"seeds": "auto"}, {"add_seeds": True}])
def test_seeds_are_added_to_the_parts_with_claims(common: dict[str, Any]) -> None:
    rate, plain = load({"parts": {"rate": study(claims=[CLAIM]), "plain": STUDY}, **common})
    assert (rate.add_seeds, plain.add_seeds) == (True, False)
    assert plain.seeds == (0, 1, 2)
    with pytest.raises(UserError, match=r"^study: none of the parts has claims"):
        load({"parts": {"plain": STUDY}, **common})


def test_levels_of_an_image_folder_are_absolute_as_in_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOTOS", "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    levels = ["link", "${oc.env:PHOTOS}"]
    two = claim(expects="higher", at=levels[0], than=levels[1])
    (loaded,) = load(study(vary={"data.root": levels}, claims=[two]))
    assert loaded.vary == {"data.root": (str(tmp_path / "photos"), levels[1])}
    assert loaded.claims[0].at == str(tmp_path / "photos")


def test_the_data_of_all_references_of_a_combined_study_are_set_together() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose(
            "config",
            ["study=dropout_article", "+study.reference.settings.data=image_folder"],
        )
    for part in load_studies(composed.study):
        assert part.reference is not None
        assert part.reference.settings["data"] == "image_folder"
        assert part.reference.settings["batch_size"] == 256


def test_a_study_without_claims_can_vary_two_keys() -> None:
    (loaded,) = load(study(vary={"lr": [0.1, 0.01], "dropout": [0.0, 0.5]}))
    assert list(loaded.vary) == ["optimizer.lr", "model.dropout"]


REFUSED = {
    "an unknown key": (study(tite="T"), "study.tite: unknown setting"),
    "an unknown key of a claim": (
        study(claims=[claim(att=1)]),
        "study.claims.0.att: unknown setting",
    ),
    "claims that are not a list": (study(claims=5), "study.claims: expected a list"),
    "a claim that is a text": (study(claims=["x"]), "study.claims.0: expected an object"),
    "a missing key": ({"name": "mine"}, "study.title: missing\n"),
    "an unknown metric": (
        study(claims=[claim(metric="loss")]),
        "study.claims.0.metric: got \"loss\", expected 'final_train_loss', ",
    ),
    "a misspelt metric": (
        study(claims=[claim(metric="final_test_acuracy")]),
        "got \"final_test_acuracy\", did you mean final_test_accuracy? expected 'final_train_loss'",
    ),
    "an unknown expectation": (
        study(claims=[claim(expects="more")]),
        "study.claims.0.expects: expected 'higher', 'lower', 'same', ",
    ),
    "no at": (
        study(claims=[CLAIM, claim(at="omitted")]),
        "study.claims.1: expected the levels `at` and `than` with expects=higher",
    ),
    "no than": (
        study(claims=[claim(expects="same", matters_from=1, than="omitted")]),
        "study.claims.0: expected the levels `at` and `than` with expects=same",
    ),
    "an at for a claim about all levels": (
        study(claims=[claim(expects="rises")]),
        "study.claims.0: expected no `at` and `than` with expects=rises",
    ),
    "no reached": (
        study(claims=[claim(metric="epochs_to_test_accuracy")]),
        "study.claims.0: expected `reached` with the metrics epochs_to_..., and only with these",
    ),
    "an unexpected reached": (
        study(claims=[claim(reached=0.5)]),
        "study.claims.0: expected `reached` with the metrics epochs_to_..., and only with these",
    ),
    "reached in percent": (
        study(claims=[claim(metric="epochs_to_test_accuracy", reached=80)]),
        "study.claims.0.reached: expected a number less than or equal to 1, got 80",
    ),
    "a negative difference": (
        study(claims=[claim(matters_from=-1)]),
        "study.claims.0.matters_from: expected a number greater than or equal to 0, got -1",
    ),
    "no margin for expects=same": (
        study(claims=[claim(expects="same")]),  # needs infinitely many seeds
        "study.claims.0: expected `matters_from` above 0 with expects=same",
    ),
    "a key of a run": (study(seed=[0]), "study.seed: unknown setting"),
    "a level compared with itself": (
        study(claims=[claim(than=0.1)]),
        "study.claims.0: expected different levels as `at` and `than`",
    ),
    "a mapping for a level": (
        study(vary={"lr": [{"a": 1}]}),
        "study.vary.optimizer.lr.0: expected a number, text, true, false, null or a list of these",
    ),
    "nested settings": (
        study(settings={"training": {"epochs": 3}}),
        "study.settings.training: expected a number, text, true, false, null or a list of these",
    ),
    "two names of a key": (
        study(vary={"lr": [0.1], "optimizer.lr": [0.2]}),
        "study: lr and optimizer.lr set the same. Set it once, under `vary` or `settings`.",
    ),
    "a varied setting": (
        study(settings={"optimizer.lr": 0.2}),
        "study: lr and optimizer.lr set the same.",
    ),
    "a seed in the settings": (
        study(settings={"seed": 3}),
        "study.settings.seed: expected seeds under `seeds`.",
    ),
    "no varied key": (study(vary={}), "study.vary: expected at least 1 of them, got 0"),
    "no levels": (study(vary={"lr": []}), "expected at least one level for every key of `vary`"),
    "a number for a list of levels": (
        study(vary={"lr": 0.1}),
        "study.vary.optimizer.lr: expected a list, got 0.1",
    ),
    "claims with two varied keys": (
        study(vary={"lr": [0.1, 0.01], "dropout": [0.0]}, claims=[CLAIM]),
        "expected one key under `vary` in a study with claims",
    ),
    "no seeds": (study(seeds=[]), "study.seeds: expected at least 1 of them, got 0"),
    "a text for a seed": (study(seeds=["a"]), 'study.seeds.0: expected an integer, got "a"'),
    "a name with a slash": (study(name="a/b"), "study.name: "),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_in_a_study_is_reported_with_its_key(mistake: str) -> None:
    content, message = REFUSED[mistake]
    with pytest.raises(UserError) as error:
        load(content)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_a_mistake_in_a_part_is_reported() -> None:
    with pytest.raises(UserError, match=r"^study\.parts\.bad\.tite: unknown setting$"):
        load({"parts": {"good": STUDY, "bad": study(tite="T")}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["a"], 'study: expected a study, got ["a"]'),
        ({"parts": [1]}, r"study.parts: expected studies by name, got [1]"),
        ({"parts": {}}, "study.parts: expected studies by name, got {}"),
        ({"parts": {"a": None}}, "study.parts.a: expected a study, got null"),
        ({"parts": {"a": STUDY}, "vary": {}}, "study.vary: expected only settings, seeds, "),
        ({"parts": {"a": STUDY}, "settings": 1}, "study.parts.a.settings: expected an object"),
        (
            {"parts": {"a": STUDY}, "reference": {"label": "x"}},
            "study.reference: none of the parts has a reference",
        ),
    ],
)
def test_a_file_without_a_study_is_refused(content: Any, message: str) -> None:
    with pytest.raises(UserError, match="^" + re.escape(message)):
        load(content)


def test_an_invalid_seed_is_reported_once() -> None:
    with pytest.raises(UserError) as error:
        load(study(seeds=["a"]))
    assert str(error.value) == 'study.seeds.0: expected an integer, got "a"'


COMBINED = ("article", "article_all_images", "dropout_article")
SINGLE = sorted(f.stem for f in (CONF / "study").glob("*.yaml") if f.stem not in COMBINED)


def studies(name: str) -> list[Study]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return load_studies(compose("config", [f"study={name}"]).study)


@pytest.mark.parametrize("name", SINGLE)
def test_every_study_has_its_file_name_and_claims(name: str) -> None:
    (study,) = studies(name)
    assert study.name == name
    assert study.claims
    assert study.seeds == (0, 1, 2)


def test_the_study_article_contains_all_studies() -> None:
    assert sorted(study.name for study in studies("article")) == [
        name for name in SINGLE if not name.endswith("_article")
    ]


def test_the_study_dropout_article_compares_dropout_that_is_off_and_on_in_testing() -> None:
    off, on = studies("dropout_article")
    assert off.vary == {"model.dropout": (0.0, 0.5)}
    assert on.vary == {"model.dropout_in_testing": (False, True)}
    assert on.settings == off.settings | {"model.dropout": 0.5}
    assert all(part.claims and part.reference for part in (off, on))


@pytest.mark.parametrize("name", ["lr", "weight_decay", "batch_size", "epochs"])
def test_a_study_varies_the_levels_of_its_group(name: str) -> None:
    (study,) = studies(name)
    (levels,) = study.vary.values()
    named = [yaml.safe_load(file.read_text()) for file in (CONF / name).glob("*.yaml")]
    assert sorted(levels) == sorted(next(iter(next(iter(n.values())).values())) for n in named)

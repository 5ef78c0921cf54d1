"""The answer at the top of a report and below the table of a sweep."""

import re
import shlex
from pathlib import Path

import pytest

from cifar_exp.cli.overrides import translate_overrides
from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import RunConfig, Training
from cifar_exp.data.settings import Cifar10, ImageFolder, Synthetic
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Adam, Sgd
from cifar_exp.reports.answer import answer_of, answer_rows, answer_text, train_command
from cifar_exp.reports.content import cautions_of, facts_of, provenance_of
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record
from cifar_exp.schedulers import Cosine
from tests.config.test_conf import composed


def record(accuracy: float, status: str = "complete", **settings) -> Record:
    rows = [{"epoch": 1, "test_accuracy": accuracy, "train_seconds": 90.0, "test_seconds": 1.0}]
    state = {"status": status, "started": "2026-11-24T10:00:00+00:00"}
    return Record(RunConfig(**settings), RunFolder(Path("runs") / "x"), status, state, rows)


def rates(**accuracies: tuple[float, ...]) -> list[Record]:
    """Return runs by learning rate: rates(high=(0.7, 0.8)) has two seeds."""
    lr = {"high": 0.01, "low": 0.0001, "other": 0.001}
    return [
        record(accuracy, optimizer=Adam(lr=lr[name]), seed=seed)
        for name, by_seed in accuracies.items()
        for seed, accuracy in enumerate(by_seed)
    ]


def test_the_best_is_named_with_its_interval_and_compared_with_the_second() -> None:
    answer = answer_of(rates(low=(0.50, 0.51, 0.52), high=(0.70, 0.71, 0.725), other=(0.1,) * 3))
    assert answer is not None
    assert re.fullmatch(
        r"Best: lr=0\.01, test accuracy 71\.2 % \([\d.]+ to [\d.]+; 3 seeds\)\. Supported: 0\.01 "
        r"beats 0\.0001 by 20\.2 points \([\d.]+ to [\d.]+; 3 seeds; p [=<] [\d.]+ for this "
        r"comparison, corrected p = [\d.]+\)\.",
        answer.text,
    )
    assert answer.command == "python train.py lr=0.01"


def test_a_best_that_may_be_chance_is_inconclusive_and_beats_nothing() -> None:
    answer = answer_of(rates(low=(0.5, 0.7, 0.6), high=(0.7, 0.5, 0.63)))
    assert answer is not None
    assert answer.verdict == "inconclusive"
    assert (
        "Inconclusive against the second best: 0.01 has 1.0 points more than 0.0001" in answer.text
    )
    assert "beats" not in answer.text


def test_one_seed_is_not_tested() -> None:
    answer = answer_of(rates(low=(0.5,), high=(0.7,)))
    assert answer is not None
    assert answer.text == (
        "Best: lr=0.01, test accuracy 70.0 % (1 seed). "
        "One seed, not tested: 0.01 has 20.0 points more than 0.0001 (1 seed)."
    )


def test_while_runs_are_missing_the_best_is_preliminary_and_not_compared() -> None:
    runs = [*rates(low=(0.5,), high=(0.7,)), record(0.1, "interrupted")]
    answer = answer_of(runs)
    assert answer is not None
    assert answer.text == "Best so far: lr=0.01, test accuracy 70.0 % (1 seed)."
    assert answer_of([record(0.1, "failed")]) is None


def test_of_many_varied_settings_only_the_unusual_ones_are_named() -> None:
    changes = [
        {"optimizer": Adam(lr=0.1)},
        {"model": Model(dropout=0.5)},
        {"data": Cifar10(batch_size=1)},
        {"training": Training(epochs=10)},
    ]
    runs = [record(0.5), *(record(0.1 * n, **one) for n, one in enumerate(changes, 4))]
    answer = answer_of(runs)
    assert answer is not None
    assert answer.best == "epochs=10"
    assert "epochs=10 has 10.0 points more than batch_size=1" in answer.effect
    center = answer_of([record(0.9), *runs[1:]])
    assert center is not None
    assert center.best == "the most common settings"


def test_a_level_that_older_runs_lack_has_its_name() -> None:
    held_out = {"data": Synthetic(val_fraction=0.1)}
    runs = [record(0.5, **held_out), record(0.4, training=Training(keep="best"), **held_out)]
    answer = answer_of(runs)
    assert answer is not None
    assert answer.best == "keep=last"


def study(name: str, *claims: dict[str, object]) -> dict[str, object]:
    vary = {"optimizer.lr": [0.01, 0.0001]}
    return {"name": name, "title": name, "question": "?", "vary": vary, "claims": list(claims)}


CLAIMS = (
    {"says": "A high rate is better.", "metric": "final_test_accuracy", "expects": "higher"},
    {"says": "A low rate is better.", "metric": "final_test_accuracy", "expects": "lower"},
)


def text_of(*studies: dict[str, object], runs: list[Record]) -> str:
    by_id = {run_id(run.config): run for run in runs}
    return answer_text({"studies": [{"study": one, "runs": list(by_id)} for one in studies]}, by_id)


def test_the_claims_of_a_study_are_listed_with_their_verdicts() -> None:
    claims = [claim | {"at": 0.01, "than": 0.0001} for claim in CLAIMS]
    runs = rates(low=(0.50, 0.51, 0.52), high=(0.70, 0.71, 0.725))
    text = text_of(study("one", *claims), runs=runs)
    assert re.search(r"^supported +A high rate is better\. +0\.01 beats 0\.0001 by 20", text, re.M)
    assert re.search(r"^contradicted +A low rate is better\. ", text, re.M)
    several = text_of(study("one", *claims), study("two", *claims), runs=runs)
    assert "The 4 claims: 2 supported, 2 contradicted. The report has each of them." in several
    assert "A low rate" not in several
    # the interval of looks after 3 to 10 seeds is wider
    assert "beats 0.0001 by 20.2 points (19.1 to 21.2;" in several.splitlines()[0]
    adding = text_of(*(study(name, *claims) | {"add_seeds": True} for name in "ab"), runs=runs)
    assert "beats 0.0001 by 20.2 points (18.4 to 22.0;" in adding.splitlines()[0]
    unfinished = text_of(study("one", *claims), runs=[*runs, record(0.1, "interrupted")])
    assert "A high rate" not in unfinished


def test_a_sweep_over_seeds_alone_states_its_accuracy() -> None:
    answer = answer_of([record(a, seed=n) for n, a in enumerate((0.5, 0.5))])
    assert answer is not None
    assert answer.text.startswith("Test accuracy 50.0 % (")
    (row,) = answer_rows([("Seeds", None)])
    assert row["answer"] == "no complete run"


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(),
        RunConfig(optimizer=Sgd(lr=0.03, momentum=0.5), scheduler=Cosine(), seed=3),
        RunConfig(data=ImageFolder(root="my photos, 1"), model=Model(name="resnet18", width=0.25)),
        RunConfig(data=Synthetic(val_fraction=0.1), optimizer=Adam(betas=(0.8, 0.9), eps=1e-7)),
        RunConfig(data=ImageFolder(root="mes photos été")),
        RunConfig(data=ImageFolder(root="Vögel")),
        RunConfig(data=ImageFolder(root=r"a\b")),
        RunConfig(data=ImageFolder(root="2024")),  # not the number
    ],
)
def test_the_command_trains_the_same_run(config: RunConfig) -> None:
    program, *words = shlex.split(train_command(config).removeprefix("python "))
    assert program == "train.py"
    assert run_id(composed(*translate_overrides(words, False))) == run_id(config)


def test_the_size_is_compared_with_the_baseline_only_in_studies_and_not_for_photos() -> None:
    demo = [record(0.5, data=Synthetic(), model=Model(width=0.125), seed=n) for n in (0, 1)]
    assert "data synthetic, width 0.125" in cautions_of(demo, of_study=True)[0]
    assert cautions_of(demo) == []
    photos = [record(0.5, data=ImageFolder(root="x"), training=Training(epochs=5))]
    assert cautions_of(photos, of_study=True) == []
    limited = [record(0.5, data=ImageFolder(root="x", limit_train=5000))]
    assert cautions_of(limited, of_study=True) == [
        "The runs use 5,000 training images only. The results may differ with all images."
    ]


def test_varied_settings_are_not_listed_in_the_warning_about_the_size() -> None:
    runs = [record(0.5, training=Training(epochs=n), model=Model(width=0.5)) for n in (1, 100)]
    (caution,) = cautions_of(runs, of_study=True)
    assert "(width 0.5)" in caution


def test_the_facts_of_a_search_have_the_images_of_both_splits() -> None:
    data = Synthetic(train_size=600, test_size=50, val_fraction=0.1)
    trials = [record(0.5, data=data), record(0.5, data=data.model_copy(update={"val_fraction": 0}))]
    assert " · 50 test images, 60 validation images · 2 runs" in facts_of(trials)


def test_the_facts_are_date_network_data_runs_and_duration() -> None:
    photos = ImageFolder(root="/home/me/my_images", limit_test=50)
    facts = facts_of([record(0.5, data=photos, seed=seed) for seed in (0, 1)])
    assert facts.startswith("2026-11-24 · vgg16 on my_images")
    assert facts.endswith("· 2 runs · 3 min of training and evaluation")
    from_environment = photos.model_copy(update={"root": "${oc.env:PHOTOS}"})
    assert " · vgg16 on image_folder · " in facts_of([record(0.5, data=from_environment)])


def test_evaluated_images_that_were_trained_on_are_a_caution() -> None:
    photos = ImageFolder(root="/data/my_images")
    runs = [record(0.5, data=photos, seed=seed) for seed in range(2)]
    assert cautions_of(runs) == []
    runs[1].state.update(shared_images=3, evaluated_images=40)
    (caution,) = cautions_of(runs)
    assert caution.startswith("3 of 40 test images are also training images")


def test_what_is_not_known_of_the_machine_is_left_out() -> None:
    run = record(0.5)
    hardware = {"cpu": "a processor", "cores": 2, "gpus": []}
    versions = {"cifar-exp": None, "torch": "2.11.0"}  # None: used without installing
    known = {"commit": None, "python": "3.12.3", "versions": versions, "hardware": hardware}
    run.state.update(provenance=known, compute={"device": "cpu", "precision": "fp32", "threads": 1})
    shown = provenance_of([run])
    assert shown["versions"] == "torch 2.11.0"
    assert shown["commit"] == ""
    assert shown["processor"] == "a processor, 2 cores"

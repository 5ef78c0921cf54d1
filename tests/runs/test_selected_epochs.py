"""Runs that keep the best epoch (`training.keep=best`) or stop early (`training.patience`)."""

import shutil
from pathlib import Path

import pytest
import torch
from pandas import NA
from pydantic import ValidationError
from safetensors.torch import load_file

from cifar_exp import load_runs
from cifar_exp.__main__ import main
from cifar_exp.config.identity import prefix_id
from cifar_exp.config.schema import RunConfig, Training
from cifar_exp.data.settings import Synthetic
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Sgd
from cifar_exp.reports.table import as_text, ranked, report_rows
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import read_record
from cifar_exp.runs.runner import Runner
from cifar_exp.schedulers import Constant
from cifar_exp.signals import Interrupted
from cifar_exp.training.progress import EpochMetrics, best_epoch
from tests.conftest import read_rows, read_state
from tests.runs.test_continuing import assert_equal
from tests.runs.test_runner import config, finish

DATA = Synthetic(train_size=80, test_size=20, batch_size=16, val_fraction=0.5)
EPOCHS = 6
BOTH = {"keep": "best", "patience": 2}


def unsteady(folder: Path, epochs: int = EPOCHS, **training: object) -> RunConfig:
    """Return a run whose learning rate is so high that the validation accuracy varies."""
    return config(
        folder,
        data=DATA,
        model=Model(name="vgg11", width=1 / 64),
        optimizer=Sgd(lr=0.3),
        scheduler=Constant(),
        seed=3,
        training=Training(epochs=epochs, **training),  # type: ignore[arg-type]
    )


def accuracies(run: Path) -> list[float]:
    return [row["val_accuracy"] for row in read_rows(run)]


def losses(run: Path) -> list[float]:
    return [row["train_loss"] for row in read_rows(run)]


def test_the_best_epoch_is_the_first_with_the_highest_accuracy() -> None:
    assert best_epoch([0.1, 0.3, 0.2, 0.3]) == 2
    assert best_epoch([]) == 0


@pytest.mark.parametrize("setting", [{"keep": "best"}, {"patience": 3}])
def test_without_validation_images_no_epoch_is_selected(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"must not select an epoch. Set data\.val_fraction"):
        RunConfig(training=Training.model_validate(setting))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return runs that select the last epoch, the best one, or stop early as well."""
    folder = tmp_path_factory.mktemp("selected")
    settings = {"last": {}, "best": {"keep": "best"}, "both": BOTH}
    return {name: finish(unsteady(folder, **selects)) for name, selects in settings.items()}


def test_the_weights_are_those_of_the_best_epoch(runs: dict[str, Path], tmp_path: Path) -> None:
    best, last = runs["best"], runs["last"]
    kept = best_epoch(accuracies(best))
    assert 1 < kept < EPOCHS
    assert read_state(best)["epoch_kept"] == kept
    assert "epoch_stopped" not in read_state(best)
    assert f"; weights of epoch {kept}" in RunFolder(best).outcome()
    assert losses(best) == losses(last)  # only the weights differ
    shorter = finish(unsteady(tmp_path, epochs=kept))  # ends with this epoch
    weights, expected, others = (
        load_file(run / "model.safetensors") for run in (best, shorter, last)
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert not all(torch.equal(weights[name], others[name]) for name in others)


def test_a_run_stops_early_and_is_complete(runs: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "runs" / runs["both"].name
    shutil.copytree(runs["both"], run)
    stopped = len(accuracies(run))
    assert losses(run) == losses(runs["last"])[:stopped]
    assert stopped - best_epoch(accuracies(run)) == BOTH["patience"]
    assert stopped < EPOCHS
    assert read_state(run)["epoch_stopped"] == stopped
    assert f"; stopped after epoch {stopped};" in RunFolder(run).outcome()
    (run / "run.json").unlink()
    config = unsteady(tmp_path, **BOTH)
    finish(config)  # rebuilds run.json
    assert read_state(run)["epoch_stopped"] == stopped
    assert Runner.finished(config, RunFolder(run))


def test_a_run_that_trains_all_epochs_is_not_called_stopped(tmp_path: Path) -> None:
    run = finish(unsteady(tmp_path, epochs=1, **BOTH))
    assert RunFolder(run).outcome().endswith(" s; weights of epoch 1")


def test_the_data_frame_has_the_epochs_as_integers(runs: dict[str, Path]) -> None:
    frame = load_runs(runs["last"].parents[1]).to_frame().set_index("name")
    assert frame["epoch_kept"].dtype == frame["epoch_stopped"].dtype == "Int64"
    for run in runs.values():
        state = read_state(run)
        for key in ("epoch_kept", "epoch_stopped"):
            value = frame.loc[run.name, key]
            assert value == state[key] if key in state else value is NA


def test_an_interrupted_run_keeps_and_stops_at_the_same_epoch(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    interrupted = unsteady(tmp_path, **BOTH)
    for after in range(1, len(accuracies(runs["both"]))):
        run = Runner(threads=1).run(interrupted)
        for event in run:
            if isinstance(event, EpochMetrics) and event.epoch == after:
                break
        with pytest.raises(Interrupted):
            run.throw(Interrupted(15))
    assert_same(finish(interrupted), runs["both"])


def assert_same(run: Path, other: Path) -> None:
    assert_equal(run, other)
    for key in ("epoch_kept", "epoch_stopped"):
        assert read_state(run)[key] == read_state(other)[key]


@pytest.mark.parametrize("epochs", [1, EPOCHS - 1])  # before and after the run stops
def test_a_longer_run_continues_a_shorter_one_with_its_best_weights(
    runs: dict[str, Path], tmp_path: Path, epochs: int
) -> None:
    shorter = finish(unsteady(tmp_path, epochs=epochs, **BOTH))
    longer = finish(unsteady(tmp_path, **BOTH))
    assert read_state(longer)["began_as"] == shorter.name[-10:]
    assert_same(longer, runs["both"])


def test_a_run_is_a_prefix_only_of_one_that_selects_in_the_same_way(tmp_path: Path) -> None:
    long = unsteady(tmp_path, **BOTH)
    assert prefix_id(unsteady(tmp_path, epochs=2, **BOTH)) == prefix_id(long)
    for other in ({}, {"keep": "best"}, {"patience": 2}, BOTH | {"patience": 3}):
        assert prefix_id(unsteady(tmp_path, epochs=2, **other)) != prefix_id(long)


@pytest.mark.parametrize("epochs", [2, EPOCHS - 1])
def test_a_shorter_run_of_a_sweep_equals_one_that_trains_alone(tmp_path: Path, epochs: int) -> None:
    shorter = unsteady(tmp_path / "both", epochs=epochs, **BOTH)
    for _ in Runner(threads=1).run(unsteady(tmp_path / "both", **BOTH), [shorter]):
        pass
    assert read_state(RunFolder.of(shorter).path)["began_as"]  # has nothing left to train
    alone = finish(unsteady(tmp_path / "alone", epochs=epochs, **BOTH))
    assert_same(finish(shorter), alone)


def test_tables_and_reports_have_both_epochs(runs: dict[str, Path]) -> None:
    record = read_record(RunFolder(runs["both"]))
    kept, stopped = record.state["epoch_kept"], record.state["epoch_stopped"]
    text = as_text(ranked([record]))
    assert "epoch kept" in text
    assert f"{stopped}.0" in text
    (row,) = report_rows([record], [])
    assert (row["epoch kept"], row["epoch stopped"]) == (str(kept), str(stopped))
    plain = read_record(RunFolder(runs["last"]))
    assert "epoch kept" not in as_text(ranked([plain]))


def test_evaluate_reports_which_weights_it_used(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs["best"]
    kept = read_state(run)["epoch_kept"]
    monkeypatch.setattr("sys.argv", ["cifar_exp", "evaluate", str(run)])
    assert main() == 0
    output = capsys.readouterr().out
    assert f"of epoch {kept}, the best on validation images" in output
    assert f"The results equal those of the run after epoch {kept}." in output
    monkeypatch.setattr("sys.argv", ["cifar_exp", "evaluate", str(run), "data.val_fraction=0"])
    assert main() == 0  # on the test images
    assert "images                      20" in capsys.readouterr().out

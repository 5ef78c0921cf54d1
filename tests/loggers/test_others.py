"""W&B and Trackio, offline and through the command line."""

import json
import re
import signal
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from cifar_exp.config.load import from_yaml
from cifar_exp.config.schema import Logger, RunConfig
from cifar_exp.loggers.base import short_name
from cifar_exp.loggers.run_loggers import in_group
from tests.conftest import TINY, CommandLine, read_rows, read_state
from tests.loggers.dropping import log_starts, log_two_epochs_while_locked
from tests.loggers.offline import OfflineRun
from tests.processes import start_process
from tests.reliability.faults import SHORT, STEPS_PER_EPOCH, held
from tests.reliability.hold import LONGEST_WAIT_SECONDS

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not (find_spec("wandb") and find_spec("trackio")), reason="not installed"),
]
TAGS = {"loss/train": "train_loss", "accuracy/test": "test_accuracy", "lr": "lr"}
SECRET = "s3cr3t-place"


@pytest.fixture(scope="module")
def swept(tmp_path_factory, command_line) -> CommandLine:
    """A sweep with concurrent runs and all three loggers, in a folder with a secret name."""
    train = command_line(tmp_path_factory.mktemp("swept"))
    secret = train.folder / SECRET
    train.environment |= {"PLACE": str(secret), "TRACKIO_DIR": str(train.folder / "trackio")}
    train.environment |= {"WANDB_API_KEY": "k" * 40, "WANDB_MODE": "offline"}
    train.said = train(
        "-m",
        *TINY,
        "epochs=2",
        "seed=0,1,2",
        "logger=[tensorboard,wandb,trackio]",
        "paths.logs=${oc.env:PLACE}/logs",
    )
    return train


def offline_runs(logs: Path) -> dict[str, OfflineRun]:
    """Return the newest folder of each run; that of a killed run may be empty."""
    folders = sorted(logs.glob("wandb/offline-run-*"))
    newest = {folder.name.rpartition("-")[2]: folder for folder in folders}  # by W&B's id
    return {id.partition("_")[0]: OfflineRun(folder) for id, folder in newest.items()}


class TrackioRun:
    """A run in Trackio's database."""

    def __init__(self, folder: Path, run: Path) -> None:
        name = short_name(from_yaml((run / "config.yaml").read_text()))
        with closing(sqlite3.connect(folder / "cifar-exp.db")) as data:
            rows = data.execute(
                "SELECT step, metrics FROM metrics WHERE run_name = ? ORDER BY id", (name,)
            ).fetchall()
            ((config,),) = data.execute("SELECT config FROM configs WHERE run_name = ?", (name,))
        self.rows = [(step, json.loads(metrics)) for step, metrics in rows]
        self.config = json.loads(config)

    def curve(self, tag: str) -> list[tuple[int, float]]:
        return [(step, row[tag]) for step, row in self.rows if tag in row]


def test_wandb_has_each_run_under_its_id_with_its_settings_and_metrics(swept: CommandLine) -> None:
    shown = offline_runs(swept.folder / SECRET / "logs")
    (sweep,) = (path.parent.name for path in swept.folder.glob("multirun_results/*/sweep.json"))
    assert len(shown) == 3
    for run in swept.runs.iterdir():
        state, rows = read_state(run), read_rows(run)
        logged = shown[state["run_id"]]
        started = re.sub(r"\D", "", state["started"])[:14]  # another one if it is trained again
        assert logged.run.run_id == f"{state['run_id']}_{started}"
        assert logged.run.run_group == sweep
        assert logged.run.project == "cifar-exp"
        settings = yaml.safe_load((run / "config.yaml").read_text())
        assert {key: logged.config[key] for key in settings} == settings
        assert logged.config["provenance"] == state["provenance"]
        for tag, field in TAGS.items():
            assert logged.curve(tag) == [(row["epoch"], row[field]) for row in rows]
        assert logged.has("images/predictions")
        assert logged.has("images/confusion")
        assert logged.exit_codes == [0]


def test_trackio_has_each_run_with_its_settings_and_metrics(swept: CommandLine) -> None:
    (sweep,) = (path.parent.name for path in swept.folder.glob("multirun_results/*/sweep.json"))
    for run in swept.runs.iterdir():
        logged = TrackioRun(swept.folder / "trackio", run)
        assert logged.config["_Group"] == sweep
        assert logged.config["run_id"] == read_state(run)["run_id"]
        settings = yaml.safe_load((run / "config.yaml").read_text())
        assert {key: logged.config[key] for key in settings} == settings
        for tag, field in TAGS.items():
            assert logged.curve(tag) == [(row["epoch"], row[field]) for row in read_rows(run)]
        step, last = logged.rows[-1]
        assert step == 2
        assert set(last) == {"images/predictions", "images/confusion"}


def test_epochs_that_trackio_drops_are_logged_again(tmp_path: Path) -> None:
    process = start_process(log_two_epochs_while_locked, tmp_path)
    process.join()
    assert process.exitcode == 0
    with closing(sqlite3.connect(tmp_path / "cifar-exp.db")) as data:
        rows = data.execute("SELECT step FROM metrics ORDER BY id").fetchall()
    assert rows == [(1,), (2,)]


def test_a_run_that_is_trained_again_is_a_new_run_of_trackio(tmp_path: Path) -> None:
    process = start_process(log_starts, tmp_path)
    process.join()
    assert process.exitcode == 0
    with closing(sqlite3.connect(tmp_path / "cifar-exp.db")) as data:
        rows = data.execute("SELECT run_id, step FROM metrics ORDER BY id").fetchall()
    first, _, repeated = (run for run, _ in rows)
    assert rows == [(first, 1), (first, 2), (repeated, 1)]
    assert first != repeated


def test_no_secret_is_logged(swept: CommandLine) -> None:
    files = [path for path in swept.folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        assert b"k" * 40 not in content, path


def test_services_print_nothing(swept: CommandLine) -> None:
    lines = swept.said.lower().splitlines()
    printed = [line for line in lines if not line.startswith(("w&b: ", "trackio: "))]  # our pages
    assert not any("wandb" in line or "trackio" in line for line in printed)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_resumed_run_is_one_run_with_every_epoch_once(
    train: CommandLine, how: signal.Signals
) -> None:
    train.environment["TRACKIO_DIR"] = str(train.folder / "trackio")
    settings = (*SHORT, "epochs=6", "logger=[wandb,trackio]")
    with held(train, *settings, step=STEPS_PER_EPOCH + 3) as it:
        it.process.send_signal(how)
    assert it.process.wait(LONGEST_WAIT_SECONDS) != 0
    train(*settings)
    expected = [(row["epoch"], row["test_accuracy"]) for row in read_rows(train.only_run)]
    assert [epoch for epoch, _ in expected] == [1, 2, 3, 4, 5, 6]
    (shown,) = offline_runs(train.folder / "logs").values()  # by run id
    assert shown.curve("accuracy/test") == expected
    assert TrackioRun(train.folder / "trackio", train.only_run).curve("accuracy/test") == expected


@pytest.mark.parametrize(
    ("logger", "group"),
    [
        (Logger(wandb=True), "lr-0eb49b8fde"),
        (Logger(trackio=True, group="mine"), "mine"),
        (Logger(mlflow=True), "lr-0eb49b8fde"),
        (Logger(tensorboard=True), None),  # has no groups
    ],
)
def test_the_sweep_is_the_group_of_runs_without_a_group(logger: Logger, group: str | None) -> None:
    assert in_group(RunConfig(logger=logger), "lr-0eb49b8fde").logger.group == group

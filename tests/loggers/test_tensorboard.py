"""Event files of runs, as TensorBoard's backend reads them."""

import errno
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.get_experiment import Handler as GetExperiment
from tensorboard.plugins.hparams.list_session_groups import Handler as ListSessionGroups
from tensorboard.summary.writer.record_writer import RecordWriter

from cifar_exp.config.schema import Logger, Paths, RunConfig, Training
from cifar_exp.data.settings import Cifar10, Synthetic
from cifar_exp.loggers.base import LoggedRun, short_name
from cifar_exp.loggers.event_file import EventFile
from cifar_exp.loggers.hparams import declare
from cifar_exp.loggers.tensorboard import TensorBoard
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Adam, Sgd
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.runner import Runner
from cifar_exp.training.progress import EpochMetrics
from tests.conftest import ROOT, TINY, CommandLine, event_folder, read_rows, read_state
from tests.made import an_epoch

STATUSES = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE]


class Page:
    """The backend of the HParams page for a folder of logs."""

    def __init__(self, logs: Path) -> None:
        multiplexer = EventMultiplexer()
        multiplexer.AddRunsFromDirectory(str(logs))
        multiplexer.Reload()
        self.runs = set(multiplexer.Runs())
        provider = MultiplexerDataProvider(multiplexer, str(logs))
        self._context = Context(TBContext(data_provider=provider, logdir=str(logs)))

    @property
    def experiment(self) -> Any:
        request = api_pb2.GetExperimentRequest()
        return GetExperiment(RequestContext(), self._context, "", request).run()

    @property
    def levels(self) -> dict[str, Any]:
        """Check boxes or interval by setting."""
        return {
            info.name: list(info.domain_discrete) or info.domain_interval
            for info in self.experiment.hparam_infos
        }

    def groups(self, **chosen: list[Any]) -> list[Any]:
        """Return the rows of the table. Args: chosen: checked levels by short name."""
        keys = {"lr": "optimizer.lr", "batch_size": "data.batch_size"}
        request = api_pb2.ListSessionGroupsRequest(
            allowed_statuses=STATUSES, start_index=0, slice_size=100
        )
        for name, levels in chosen.items():
            request.col_params.add(hparam=keys[name]).filter_discrete.extend(levels)
        response = ListSessionGroups(RequestContext(), self._context, "", request).run()
        return list(response.session_groups)


@pytest.fixture(scope="module")
def swept(tmp_path_factory, command_line) -> CommandLine:
    """A sweep, whose output is in `said`, and a run that diverges."""
    train = command_line(tmp_path_factory.mktemp("swept"))
    train.said = train("-m", *TINY, "epochs=1", "lr=0.01,0.001", "seed=0,1")
    train(*TINY, "epochs=1", "lr=1e9", "optimizer=sgd")
    return train


@pytest.mark.integration
def test_each_configuration_is_one_row_averaged_over_seeds(swept: CommandLine) -> None:
    groups = [group for group in Page(swept.folder / "logs").groups() if len(group.sessions) > 1]
    assert len(groups) == 2  # two rates, with two seeds each
    for group in groups:
        (first,) = swept.runs.glob(f"*-{group.name}")  # its id
        configuration = read_state(first)["config_id"]
        assert "seed=1" not in first.name
        runs = [r for r in swept.runs.iterdir() if read_state(r)["config_id"] == configuration]
        assert len(runs) == len(group.sessions) == 2
        expected = [read_rows(run)[-1]["test_accuracy"] for run in runs]
        shown = {metric.name.tag: metric.value for metric in group.metric_values}
        assert shown["accuracy/test"] == pytest.approx(sum(expected) / 2)
        assert group.hparams["optimizer.lr"].number_value in (0.01, 0.001)
        assert "seed" not in group.hparams


@pytest.mark.integration
def test_the_page_has_check_boxes_for_settings_that_differ(swept: CommandLine) -> None:
    page = Page(swept.folder / "logs")
    assert page.levels["optimizer.lr"] == [0.001, 0.01, 1e9]
    assert page.levels["optimizer"] == ["adam", "sgd"]
    assert "model" not in page.levels  # all are vgg11
    names = {info.name: info.display_name for info in page.experiment.hparam_infos}
    assert names["optimizer.lr"] == "lr"
    assert page.experiment.metric_infos[0].name.tag == "accuracy/test"
    (row,) = page.groups(lr=[0.01])
    assert row.hparams["optimizer.lr"].number_value == 0.01


@pytest.mark.integration
def test_a_sweep_ends_with_the_command_that_opens_the_page(swept: CommandLine) -> None:
    assert swept.said.splitlines()[-1] == "TensorBoard: tensorboard --logdir=logs"


@pytest.mark.integration
def test_the_page_shows_how_each_run_ended(swept: CommandLine) -> None:
    page = Page(swept.folder / "logs")
    statuses = {s.name: s.status for group in page.groups() for s in group.sessions}
    for run in swept.runs.iterdir():
        diverged = read_state(run)["status"] == "diverged"
        shown = statuses[event_folder(swept.folder / "logs", run).name]
        assert shown == (api_pb2.STATUS_FAILURE if diverged else api_pb2.STATUS_SUCCESS)


@pytest.mark.integration
def test_each_run_is_listed_once_under_a_short_name(swept: CommandLine) -> None:
    page = Page(swept.folder / "logs")
    (declared,) = (name for name in page.runs if name.startswith("hparams-"))
    runs = page.runs - {declared}
    assert len(runs) == 5
    assert all(len(name) <= 30 + 1 + 10 for name in runs)  # a name, a dash and the run's id
    assert {name.rpartition("-")[2] for name in runs} == {
        read_state(run)["run_id"] for run in swept.runs.iterdir()
    }


@pytest.fixture
def complete(swept: CommandLine) -> Path:
    return next(run for run in swept.runs.iterdir() if read_state(run)["status"] == "complete")


@pytest.fixture
def events(swept: CommandLine, complete: Path) -> EventAccumulator:
    events = EventAccumulator(str(event_folder(swept.folder / "logs", complete)))
    events.Reload()
    return events


@pytest.mark.integration
def test_figures_and_texts_are_logged(complete: Path, events: EventAccumulator) -> None:
    for name in ("predictions", "confusion"):
        (image,) = events.Images(f"images/{name}")
        assert image.encoded_image_string == (complete / f"{name}.png").read_bytes()
        assert min(image.width, image.height) > 300  # pixels
        assert image.step == 1
    (config,) = events.Tensors("text/config")[0].tensor_proto.string_val
    assert (complete / "config.yaml").read_text() in config.decode()
    (provenance,) = events.Tensors("text/provenance")[0].tensor_proto.string_val
    assert read_state(complete)["provenance"]["python"] in provenance.decode()


@pytest.mark.integration
def test_the_guide_lists_every_tag(events: EventAccumulator) -> None:
    guide = (ROOT / "docs" / "guide" / "loggers.md").read_text()
    documented = {
        tag
        for line in guide.splitlines()
        if line.startswith("| `")
        for tag in re.findall("`([^`]*)`", line.split(" | ")[0])
    }
    tags = events.Tags()
    for tag in [*tags["scalars"], *tags["images"], *tags["tensors"]]:
        assert tag.startswith("_hparams_/") or tag in documented, tag


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def with_lr(logs: Path, *rates: float, **other: Any) -> list[RunConfig]:
    return [
        RunConfig(optimizer=Adam(lr=rate), paths=Paths(logs=str(logs)), **other) for rate in rates
    ]


def shown_levels(logs: Path) -> dict[str, Any]:
    assert len(list(logs.glob("hparams-*/*"))) == 1
    return Page(logs).levels


def test_a_later_sweep_adds_its_levels(logs: Path) -> None:
    declare(with_lr(logs, 0.1, 0.01))
    assert shown_levels(logs) == {"optimizer.lr": [0.01, 0.1]}
    declare([RunConfig(optimizer=Sgd(lr=0.05), paths=Paths(logs=str(logs)))])
    levels = shown_levels(logs)
    assert levels["optimizer.lr"] == [0.01, 0.05, 0.1]
    assert levels["optimizer"] == ["adam", "sgd"]


def test_the_folder_changes_only_with_new_levels(logs: Path) -> None:
    # TensorBoard reads a file once, but notices new folders
    declare(with_lr(logs, 0.1, 0.01))
    (first,) = logs.glob("hparams-*")
    declare(with_lr(logs, 0.01))
    assert list(logs.glob("hparams-*")) == [first]
    declare(with_lr(logs, 0.3))
    (second,) = logs.glob("hparams-*")
    assert second != first


def test_ten_levels_become_an_interval(logs: Path) -> None:
    declare(with_lr(logs, *(i / 100 for i in range(1, 11))))
    declare(with_lr(logs, 0.5))
    interval = shown_levels(logs)["optimizer.lr"]
    assert (interval.min_value, interval.max_value) == (0.01, 0.5)


def test_a_single_run_shows_the_five_settings_of_the_article(logs: Path) -> None:
    declare(with_lr(logs, 0.1))
    assert shown_levels(logs) == {
        "optimizer.lr": [0.1],
        "optimizer.weight_decay": [0],
        "data.batch_size": [64],
        "model.dropout": [0],
        "training.epochs": [100],
    }


def test_a_damaged_file_of_levels_is_replaced(logs: Path) -> None:
    declare(with_lr(logs, 0.1))
    for content in ("", "[]", '{"optimizer.lr": 3}'):
        (logs / ".hparams.json").write_text(content)
        declare(with_lr(logs, 0.2, 0.3))
        assert shown_levels(logs) == {"optimizer.lr": [0.2, 0.3]}


def test_runs_without_tensorboard_are_not_declared(logs: Path) -> None:
    declare(with_lr(logs, 0.1, logger=Logger()))
    assert not logs.exists()


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (RunConfig(), "article"),
        (RunConfig(seed=7), "seed=7"),
        (
            # settings that do not fit are omitted, except for the seed
            RunConfig(optimizer=Adam(lr=0.12345, eps=1e-7, weight_decay=0.001), seed=3),
            "lr=0.12345,eps=1e-07,seed=3",
        ),
        (
            # longer than the name of the run's folder
            RunConfig(
                optimizer=Sgd(lr=0.4, momentum=0.95, weight_decay=0.0005, nesterov=True),
                data=Cifar10(augment="crop_flip", cutout=8, batch_size=512, normalize="channels"),
                seed=3,
            ),
            "optimizer=sgd,lr=0.4,seed=3",
        ),
    ],
)
def test_a_short_name_keeps_the_seed(config: RunConfig, name: str) -> None:
    assert short_name(config).rpartition("-")[0] == name


def epoch(number: int) -> EpochMetrics:
    return an_epoch(number, 0.5 + number / 10)


def write(logs: Path, history: int, epochs: list[int], status: str) -> EventAccumulator:
    """Log a run that resumes after `history` epochs, and return its events."""
    (config,) = with_lr(logs, 0.1)
    run_logger = TensorBoard()
    run_logger.begin(LoggedRun(config, {}, tuple(map(epoch, range(1, history + 1))), logs))
    for number in epochs:
        run_logger.epoch(epoch(number))
    run_logger.end(status, {})
    (folder,) = logs.iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_a_failed_run_that_is_repeated_is_shown_as_a_success(logs: Path) -> None:
    # TensorBoard uses the first end that it reads
    for status, shown in (
        ("interrupted", api_pb2.STATUS_UNKNOWN),
        ("failed", api_pb2.STATUS_FAILURE),
        ("complete", api_pb2.STATUS_SUCCESS),
    ):
        write(logs, 0, [1], status)
        (group,) = Page(logs).groups()
        assert [session.status for session in group.sessions] == [shown]


def test_a_resumed_run_shows_each_epoch_once(logs: Path) -> None:
    write(logs, 0, [1, 2, 3], "interrupted")
    events = write(logs, 2, [3, 4], "complete")  # the last checkpoint was of epoch 2
    assert [scalar.step for scalar in events.Scalars("loss/test")] == [1, 2, 3, 4]


def test_epochs_without_tensorboard_are_shown_after_a_resume(logs: Path) -> None:
    write(logs, 0, [1], "interrupted")  # the second epoch was trained with logger=none
    events = write(logs, 2, [3], "complete")
    shown = {scalar.step: scalar.value for scalar in events.Scalars("accuracy/test")}
    assert shown == pytest.approx({1: 0.6, 2: 0.7, 3: 0.8})


def test_a_run_that_started_without_tensorboard_shows_all_epochs(logs: Path) -> None:
    events = write(logs, 2, [3], "complete")
    shown = {scalar.step: scalar.value for scalar in events.Scalars("accuracy/test")}
    assert shown == pytest.approx({1: 0.6, 2: 0.7, 3: 0.8})


def test_leftover_files_are_removed_and_other_files_are_kept(
    tmp_path: Path,
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    logs = tmp_path / "logs"
    (logs / "hparams-study").mkdir(parents=True)
    (logs / "hparams-study" / "notes.txt").write_text("mine")
    (logs / "hparams-abcdef").symlink_to(mine)
    (logs / "..hparams.json.12.tmp").touch()
    for rate in (0.1, 0.2):
        declare([RunConfig(optimizer=Adam(lr=rate), paths=Paths(logs=str(logs)))])
        (folder,) = (path for path in logs.glob("hparams-??????") if not path.is_symlink())
        (folder / ".events.out.tfevents.0000000000.hparams.12.tmp").touch()
    declare([RunConfig(optimizer=Adam(lr=0.2), paths=Paths(logs=str(logs)))])
    assert not list(logs.rglob("*.tmp"))
    assert (logs / "hparams-study" / "notes.txt").exists()
    assert (mine / "notes.txt").exists()
    assert len(list(logs.glob("hparams-??????"))) == 2


def test_an_error_on_a_full_disk_names_the_event_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    message = r"No space left on device: '.*events\.out\.tfevents\.1'"
    with EventFile(tmp_path / "events.out.tfevents.1") as events, monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "write", full)
        with pytest.raises(OSError, match=message):
            events.add_scalars({"loss": 1.0}, 1)


def test_missing_event_files_are_restored(train: CommandLine) -> None:
    tiny = (*TINY, "epochs=2", "data.train_size=20", "data.test_size=10", "batch_size=10")
    for command in ((*tiny,), ("-m", *tiny, "seed=0,1")):
        train(*command)
        shutil.rmtree(train.folder / "logs")
        assert "finished before" in train(*command)
        for run in train.runs.iterdir():
            if command[0] == "-m" or "seed=1" not in run.name:
                events = EventAccumulator(str(event_folder(train.folder / "logs", run)))
                events.Reload()
                assert [scalar.step for scalar in events.Scalars("accuracy/test")] == [1, 2]


def test_a_run_whose_event_files_are_deleted_during_training_is_complete(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    config = RunConfig(
        data=Synthetic(train_size=20, test_size=10),
        model=Model(name="vgg11", width=1 / 16),
        training=Training(epochs=1),
        device="cpu",
        paths=Paths(results=str(tmp_path), logs=str(logs), cache=str(tmp_path)),
    )
    for event in Runner(threads=1).run(config):
        if isinstance(event, EpochMetrics):
            shutil.rmtree(logs)
    assert RunFolder.of(config).status == "complete"
    assert list(Runner(threads=1).run(config)) == []
    assert len(list(logs.glob("epochs=1*/events.out.tfevents*"))) == 2


def test_event_files_that_cannot_be_restored_are_reported(train: CommandLine) -> None:
    tiny = (*TINY, "data.train_size=20", "data.test_size=10", "batch_size=10")
    train(*tiny)
    logs = train.folder / "logs"
    shutil.rmtree(logs)
    logs.write_text("")  # a file cannot contain event files
    for command in (tiny, ("-m", *tiny)):
        assert "cannot restore the TensorBoard files: " in train(*command)

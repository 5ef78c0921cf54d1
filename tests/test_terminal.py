"""Progress bars, lines and tables on a terminal."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from cifar_exp.config.schema import RunConfig
from cifar_exp.reports.table import as_text, ranked
from cifar_exp.runs import progress_bar
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.progress_bar import cut_labels, time_left
from cifar_exp.runs.record import Record
from cifar_exp.signals import Interrupted, StopRequest
from cifar_exp.sweeps import run_times
from cifar_exp.sweeps.progress_display import ProgressDisplay
from cifar_exp.sweeps.run_times import RunTimes
from cifar_exp.terminal import table, wrapped_command
from cifar_exp.training.progress import EpochMetrics, Progress
from tests.made import an_epoch
from tests.terminals import InTerminal, Terminal

WIDTHS = [120, 80, 60]


@pytest.fixture(params=WIDTHS)
def terminal(request) -> Iterator[Terminal]:
    terminal = Terminal(request.param)
    yield terminal
    terminal.close()


@contextmanager
def output_to(terminal: Terminal) -> Iterator[None]:
    """Redirect standard output and error of this process to a terminal."""
    before = sys.stdout, sys.stderr
    with (
        os.fdopen(os.dup(terminal.device), "w", buffering=1) as sys.stdout,
        os.fdopen(os.dup(terminal.device), "w", buffering=1) as sys.stderr,
    ):
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (run_times, progress_bar):
        monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


def metrics(epoch: int) -> EpochMetrics:
    return EpochMetrics(epoch, {**an_epoch(epoch, 0.25).values, "val_accuracy": 0.25})


def test_bars_fit_and_omit_whole_fields(terminal: Terminal, clock: Clock) -> None:
    with output_to(terminal):
        shown = ProgressDisplay(RunTimes([1.0, 1.0]))
        shown.begin(0, "lr=0.01 weight_decay=0.0001 seed=2", "validation")
        for step in range(1, 9):
            clock.now += 1
            shown.show(0, Progress(step, 10, step / 10), 1)
            shown.show(0, metrics(1), 100)
        shown._bars[0][1]._bar.refresh()
        shown._bar.refresh()
        sweep, run = terminal.lines()
        width = terminal.columns
        for line in (sweep, run):
            assert len(line) <= width
            assert len(line.split("|")[1]) >= 10
        assert sweep.startswith("sweep:  40%|")
        assert ", about 00:14 left" in sweep
        words = run.split("| ")[1].split(", ")
        whole = ["about 00:02 left", "epoch 1", "validation accuracy 0.250", "loss 1.000"]
        assert words[1:] == whole[: len(words) - 1]
        assert len(words) > 1
        shown.close()
        assert terminal.lines() == []


def test_rounding_of_costs_gives_no_warning(terminal: Terminal, clock: Clock) -> None:
    with output_to(terminal):
        shown = ProgressDisplay(RunTimes([0.1] * 3 + [0.7] * 7))
        for run in range(10):
            for step in range(1, 7):
                shown.show(run, Progress(step, 7, step / 7), 1)
            shown.end(run, f"run {run}: complete")
        lines = terminal.lines()  # TqdmWarning is an error in tests
        shown.close()
        assert [line for line in lines if "%|" not in line] == [
            f"[{run + 1}/10] run {run}: complete" for run in range(10)
        ]
        assert "100%" in lines[-1]


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (["lr=0.1", "lr=0.2"], ["lr=0.1", "lr=0.2"]),
        (["lr=0.01 weight_decay=0.1 seed=2"], ["lr=0.01 …1 seed=2"]),
        (["trial 7 lr=0.01, momentum=0.9"], ["trial 7 …ntum=0.9"]),
        # only the middle differs
        (["rate=0.01 width=0.5 seed=0", "rate=0.01 width=1.5 seed=0"], ["width=0.5", "width=1.5"]),
        (["a" * 9 + x + "b" * 9 for x in "xy"], ["1 aaaaaa…bbbbbbbb", "2 aaaaaa…bbbbbbbb"]),
    ],
)
def test_shortened_labels_differ(labels: list[str], shown: list[str]) -> None:
    assert cut_labels(labels, 17) == shown


def test_bars_of_labels_that_differ_in_the_middle_differ(terminal: Terminal) -> None:
    with output_to(terminal):
        shown = ProgressDisplay(RunTimes([1.0] * 3))
        for run in range(3):
            shown.begin(
                run, f"learning_rate=0.001{'0' * 9} width={run} weight_decay=0.0001", "test"
            )
        shown.remove(2)
        for bar in (shown._bar, *(bar._bar for _, bar in shown._bars.values())):
            bar.refresh()
        sweep, *runs = terminal.lines()
        assert sweep.endswith("0 of 3 runs")
        assert [line.partition(":")[0] for line in runs] == ["width=0", "width=1"]
        shown.close()


def test_the_bar_of_a_search_counts_trials(terminal: Terminal) -> None:
    with output_to(terminal):
        shown = ProgressDisplay(RunTimes([1.0, 1.0]), "search", "trial")
        shown._bar.refresh()
        (line,) = terminal.lines()
        assert line.startswith("search:   0%|")
        assert line.endswith("0 of 2 trials")
        shown.close()


def test_printed_lines_have_an_estimate_only_without_a_bar(
    terminal: Terminal, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def end_one() -> None:
        clock.now = 0
        shown = ProgressDisplay(RunTimes([1.0, 1.0]))
        shown.show(0, Progress(0, 10, 0 / 10), 1)
        clock.now = 10
        shown.end(0, "lr=0.1: complete")
        shown.close()

    with output_to(terminal):
        end_one()
        assert terminal.lines() == ["[1/2] lr=0.1: complete"]
    end_one()
    assert capsys.readouterr().out == "[1/2] lr=0.1: complete; about 00:10 left\n"


def test_no_estimate_is_shown_too_early() -> None:
    assert time_left(0.4, done=0.001, left=10) == ""  # would be an hour
    assert time_left(10, done=0.1, left=10) == ""
    assert time_left(10, done=0, left=0) == ""  # a run of one step
    assert time_left(10, done=1, left=9) == "about 01:30 left"


def test_the_answer_to_ctrl_c_is_above_the_bars(terminal: Terminal) -> None:
    with output_to(terminal):
        shown = ProgressDisplay(RunTimes([1.0]))
        shown.begin(0, "lr=0.1", "test")
        terminal.echo("^C")
        stop = StopRequest()
        stop.receive(signal.SIGINT, None)
        stop.wait_until_answered()
        answer, sweep, run = terminal.lines()
        assert answer == "Stopping at the next step. Interrupt again to stop now."
        assert sweep.startswith("sweep:   0%|")
        assert run.startswith("lr=0.1:   0%|")
        terminal.echo("^C")
        with pytest.raises(Interrupted):
            stop.receive(signal.SIGINT, None)
        stop.wait_until_answered()
        assert terminal.lines()[1] == "Stopping immediately."
        shown.close()
        assert terminal.lines() == [answer, "Stopping immediately."]


def test_the_result_table_fits_60_columns() -> None:
    records = [
        Record(
            RunConfig.model_validate({"seed": seed, "optimizer": {"name": "adam", "lr": lr}}),
            RunFolder(Path("x")),
            "complete",
            {},
            [{"epoch": 1, "test_accuracy": 0.5 + seed / 100, "train_seconds": 7.0}],
        )
        for seed in range(3)
        for lr in (0.0001, 0.01)
    ]
    groups = ranked(records)
    assert max(map(len, as_text(groups).splitlines())) > 60
    fitted = as_text(groups, width=60).splitlines()
    assert max(map(len, fitted)) <= 60
    assert fitted[0].split() == ["lr", "test", "95", "%", "interval", "n", "status", "seconds"]
    assert len(fitted) == 5  # the header takes two lines, each row one


def test_tables_are_wrapped_between_words_where_that_is_enough() -> None:
    header = ["batch_size", "lr", "weight_decay", "scheduler", "start", "time each"]
    rows = [["64", "0.001", "0.0001", "multistep", "taken from epochs=100", "25 min"]]
    assert table(rows, header, 51).splitlines() == [
        "batch_  lr     weight_  scheduler  start       time",
        "size           decay                           each",
        "------  -----  -------  ---------  ----------  ----",
        "64      0.001  0.0001   multistep  taken from  25",
        "                                   epochs=100  min",
    ]


def test_words_with_underscores_are_broken_only_if_they_are_too_long() -> None:
    rows = [["best: lr=0.001 batch_size=32", "3"]]
    assert table(rows, ["settings", "runs"], 24).splitlines()[2:] == [
        "best: lr=0.001      3",
        "batch_size=32",
    ]


def test_a_wrapped_command_is_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    command = "python train.py lr=0.01 data.root='my photos, 1' model=vgg11 model.width=0.125"
    monkeypatch.setattr("cifar_exp.terminal.columns", lambda: 40)
    lines = wrapped_command(command).splitlines()
    assert lines == [
        "python train.py lr=0.01 \\",
        "    'data.root=my photos, 1' \\",
        "    model=vgg11 model.width=0.125",
    ]
    assert shlex.split(" ".join(lines).replace(" \\ ", " ")) == shlex.split(command)
    monkeypatch.setattr("cifar_exp.terminal.columns", lambda: None)
    assert wrapped_command(command) == command


def test_long_cells_are_wrapped() -> None:
    rows = [["a", "one two three four five six seven eight nine ten", 0.25]]
    shown = table(rows, ["", "words", "number"], 30)
    assert max(map(len, shown.splitlines())) <= 30
    for word in rows[0][1].split():
        assert word in shown
    assert "0.25" in shown
    assert len(table(rows, ["", "words", "number"], None).splitlines()) == 3


DEMO = (
    "experiment=demo",
    "data.train_size=60",
    "data.test_size=20",
    "batch_size=20",
    "model.width=0.015625",
    "precision=fp32",
    "logger=none",
)
SWEEP = ("-m", *DEMO, "epochs=2", "lr=0.1,0.01,0.001")


def assert_whole(lines: list[str]) -> None:
    """Check that no part of a bar and no warning is left."""
    for line in lines:
        assert "%|" not in line
        assert "Warning" not in line
        assert "^C" not in line


def table_of(lines: list[str]) -> list[str]:
    rule = next(index for index, line in enumerate(lines) if line and not line.strip("- "))
    end = lines.index("", rule)
    return lines[rule + 1 : end]


@pytest.mark.integration
@pytest.mark.parametrize(
    "columns", [80, *(pytest.param(width, marks=pytest.mark.slow) for width in (120, 60))]
)
def test_a_sweep_leaves_lines_a_table_and_a_report(tmp_path: Path, columns: int) -> None:
    status, lines = InTerminal(*SWEEP, cwd=tmp_path, columns=columns).end()
    assert status == 0, lines
    assert_whole(lines)
    assert [line[:5] for line in lines if line.startswith("[")] == ["[1/3]", "[2/3]", "[3/3]"]
    assert len(table_of(lines)) == 3
    assert "report.html" in "".join(lines[-2:])


def make_photos(folder: Path) -> None:
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (folder / name).mkdir(parents=True)
        for shade in range(4):
            image = Image.new("RGB", (8, 8), (shade, len(name), ord(name[-1])))
            image.save(folder / name / f"{shade}.png")


PHOTOS = (
    *("data=image_folder", "data.root=photos", "batch_size=4", "epochs=3", "device=cpu"),
    *("model=vgg11", "model.width=0.0625", "precision=fp32", "logger=none"),
)


@pytest.mark.integration
@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
@pytest.mark.parametrize(
    "columns", [80, *(pytest.param(width, marks=pytest.mark.slow) for width in (120, 60))]
)
def test_the_decoding_of_images_leaves_nothing_in_the_lines_of_the_bars(
    tmp_path: Path, columns: int, sweep: list[str]
) -> None:
    make_photos(tmp_path / "photos")
    command = InTerminal(*sweep, *PHOTOS, cwd=tmp_path, columns=columns)
    screens: list[list[str]] = []

    def ended() -> bool:
        screens.append(command.terminal.lines())
        return command.process.poll() is not None

    command.wait_until(ended)
    status, lines = command.end()
    assert status == 0, lines
    assert_whole(lines)
    # the path of the images, which may be on a second line, also contains the word
    assert sum(line.startswith("decoding") for line in lines) == bool(sweep)
    bars = [line for screen in screens for line in screen if "%|" in line]
    assert bars
    assert not [line for line in bars if "]" in line and "decoding" not in line]
    assert not [line for line in bars if "decoding" in line and sweep]


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("columns", [60, pytest.param(120, marks=pytest.mark.slow)])
def test_a_study_leaves_no_parts_of_bars(tmp_path: Path, columns: int) -> None:
    study = ("study=lr", *DEMO, "epochs=1", "lr=0.02,0.03", "seed=0,1")
    status, lines = InTerminal(*study, cwd=tmp_path, columns=columns).end()
    assert status == 0, lines
    assert_whole(lines)
    assert len(table_of(lines)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 120])
def test_a_search_leaves_no_parts_of_bars(tmp_path: Path, columns: int) -> None:
    small = ("data.train_size=200", "epochs=1", "hydra.sweeper.n_trials=2")
    search = ("experiment=search_demo", *DEMO[2:], *small, "hydra.sweeper.confirm=0")
    status, lines = InTerminal(*search, cwd=tmp_path, columns=columns).end()
    assert status == 0, lines
    assert_whole(lines)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("columns", "times"),
    [
        (80, 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((120, 1), (120, 2), (80, 2), (60, 1), (60, 2))
        ),
    ],
)
def test_ctrl_c_leaves_an_answer_and_no_parts_of_bars(
    tmp_path: Path, columns: int, times: int
) -> None:
    long = (*SWEEP[:-2], "epochs=500", "lr=0.1,0.01")
    command = InTerminal(*long, cwd=tmp_path, columns=columns)
    command.wait_until(lambda: list(tmp_path.glob("multirun_results/runs/*/checkpoints/*.json")))
    command.terminal.type("\x03")
    command.wait_for("Stopping at")
    if times == 2:
        command.terminal.type("\x03")
    status, lines = command.end()
    assert status == 130, lines
    assert_whole(lines)
    assert "Stopping at the next step. Interrupt again to stop now." in lines
    assert "Interrupted. Run the same command again to resume." in " ".join(lines)

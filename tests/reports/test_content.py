"""Studies on the command line, their reports, and the commands `report`, `compare` and `table`."""

import re
import shutil
import signal
from html import unescape
from pathlib import Path

import pytest
import yaml

from tests.conftest import TINY, CommandLine, computed, read_state
from tests.reliability.faults import killed_in

pytestmark = pytest.mark.integration

STUDY = {
    "name": "mine",
    "title": "My study",
    "question": "Does a small rate learn?",
    "vary": {"optimizer.lr": [0.00001, 0.01]},
    "seeds": [0, 1, 2],
    "claims": [
        {
            "says": "A tiny rate hardly learns.",
            "metric": "final_train_loss",
            "expects": "higher",
            "at": 0.00001,
            "than": 0.01,
            "matters_from": 0.05,
        }
    ],
}


def study(train: CommandLine, *overrides: str, status: int = 0) -> str:
    folder = train.folder / "study"
    folder.mkdir(exist_ok=True)
    (folder / "mine.yaml").write_text(yaml.safe_dump(STUDY))
    return train("--config-dir", str(train.folder), *TINY, "study=mine", *overrides, status=status)


def folder_of(train: CommandLine) -> Path:
    (folder,) = (p for p in train.runs.parent.iterdir() if (p / "sweep.json").exists())
    return folder


def command(train: CommandLine, *words: object, status: int = 0) -> str:
    return train.cifar_exp(*map(str, words), status=status)


def results(report: Path) -> list[str]:
    """Return the lines of report.md with claims and levels, which do not depend on the time."""
    lines = (report / "report.md").read_text().splitlines()
    return [line for line in lines if re.search(r"hardly learns|p [=<]|; 3 seeds\)", line)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, command_line) -> CommandLine:
    """The completed study."""
    train = command_line(tmp_path_factory.mktemp("whole"))
    train.output = study(train)
    return train


def test_a_study_ends_with_a_verdict_and_its_report_can_be_written_again(
    whole: CommandLine, tmp_path: Path, command_line
) -> None:
    shutil.copytree(whole.folder, tmp_path / "copy")
    train = command_line(tmp_path / "copy")
    folder = folder_of(train)
    assert str(folder.relative_to(train.folder) / "report.html") in whole.output
    text = (folder / "report.md").read_text()
    assert "A tiny rate hardly learns" in text
    (answer,) = re.findall(r"\*\*(Best: lr=.*; 3 seeds.*)\*\*", text)
    assert unescape(answer) in whole.output
    assert unescape(answer) in command(train, "table", folder)
    assert text.index(answer) < text.index("Before you read on")
    assert "supported" in text
    assert re.search(r"1e-05 has [\d.]+ nats more than 0.01 \([\d.]+ to [\d.]+; 3 seeds; p ", text)
    assert "smaller than the article's baseline" in text

    before = (folder / "report.html").read_bytes()
    assert "the report agrees with its runs" in command(train, "report", folder, "--check")
    command(train, "report", folder)
    assert (folder / "report.html").read_bytes() == before
    (folder / "report.md").write_text(text.replace("supported", "contradicted"))
    assert "report.md: differs" in command(train, "report", folder, "--check", status=1)


@pytest.mark.slow
def test_a_killed_study_is_resumed_by_the_same_command_with_the_same_report(
    whole: CommandLine, new_folder
) -> None:
    killed = new_folder("killed")
    (killed.folder / "study").mkdir()
    (killed.folder / "study" / "mine.yaml").write_text(yaml.safe_dump(STUDY))
    command = ("--config-dir", str(killed.folder), *TINY, "study=mine")
    status, out, err = killed_in(killed, "cifar_exp.sweeps.dispatcher", "Dispatcher._end", *command)
    assert status == -signal.SIGKILL, out + err
    assert not (folder_of(killed) / "report.md").exists()
    study(killed)
    assert results(folder_of(killed)) == results(folder_of(whole))
    assert len(results(folder_of(whole))) == 4  # the claim, its sentence and two levels


@pytest.mark.slow
def test_a_deleted_run_is_trained_again_with_the_same_result(train: CommandLine) -> None:
    train.environment["OMP_NUM_THREADS"] = "2"  # a single run could use both
    study(train)
    folder, (one, *others) = folder_of(train), sorted(train.runs.iterdir())
    started, before = {run: read_state(run)["started"] for run in others}, results(folder)
    metrics = computed(one)
    shutil.rmtree(one)
    assert "sweep of 6 runs (5 finished before)" in study(train)
    assert {run: read_state(run)["started"] for run in others} == started
    assert read_state(one)["compute"]["threads"] == 1
    assert computed(one) == metrics
    assert results(folder) == before


def test_runs_are_compared_and_tables_printed_for_papers(whole: CommandLine) -> None:
    runs = [run for run in sorted(whole.runs.iterdir()) if "seed=" not in run.name]
    compared = command(whole, "compare", *runs)
    assert re.search(r"^optimizer.lr +1e-05 +0.01 *$|^optimizer.lr +0.01 +1e-05 *$", compared, re.M)
    assert "final_" not in compared  # labels, not names of metrics
    assert re.search(r"^final training loss +[\d.]+ nats +[\d.]+ nats", compared, re.M)
    assert "model.width" not in compared  # the same in both
    for kind, line in (("markdown", "| lr "), ("latex", r"\toprule")):
        assert line in command(whole, "table", folder_of(whole), f"--{kind}")


@pytest.mark.parametrize(
    "words",
    [("report", "nowhere"), ("compare", "nowhere", "elsewhere"), ("compare", "nowhere")],
)
def test_a_mistake_is_reported_in_one_line(train: CommandLine, words: tuple[str, ...]) -> None:
    assert len(command(train, *words, status=1).splitlines()) == 1

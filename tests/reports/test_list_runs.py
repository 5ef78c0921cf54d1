"""`ls` lists, filters and sorts runs and sweeps."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cifar_exp.config.identity import run_id, run_name
from cifar_exp.config.load import to_yaml
from cifar_exp.config.schema import RunConfig, Training
from cifar_exp.optimizers import Adam, Sgd
from cifar_exp.reports.list_runs import ListedSweep, list_runs, list_sweeps
from cifar_exp.reports.records import sweep_id
from cifar_exp.reports.run_tables import as_text
from cifar_exp.runs.trust import file_sums
from tests.conftest import CommandLine

NOW = datetime.now(UTC)


def row(epoch: int, accuracy: float) -> dict[str, float]:
    losses = {"train_loss": 1.0, "test_loss": 1.0}
    return {"epoch": epoch, "train_accuracy": 0.5, "test_accuracy": accuracy, **losses}


def make_run(
    runs: Path, config: RunConfig, status: str, accuracies: list[float], age: timedelta
) -> str:
    folder = runs / f"{run_name(config)}-{run_id(config)}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(config))
    rows = [row(epoch, accuracy) for epoch, accuracy in enumerate(accuracies, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    state = {"status": status, "started": (NOW - age).isoformat()}
    state["sha256"] = file_sums(folder)
    (folder / "run.json").write_text(json.dumps(state))
    return folder.name


@pytest.fixture
def disk(train: CommandLine) -> CommandLine:
    """Three runs: an old complete one, a newer interrupted one, and a failed one, the newest."""
    short = Training(epochs=2)
    slow = RunConfig(training=short, optimizer=Adam(lr=0.01), seed=3)
    fast = RunConfig(training=short, optimizer=Adam(lr=0.1))
    other = RunConfig(training=short, optimizer=Sgd(momentum=0.5))
    names = [
        make_run(train.runs, slow, "complete", [0.5, 0.7], timedelta(days=3, hours=1)),
        make_run(train.runs, fast, "running", [0.8], timedelta(hours=5, minutes=30)),
        make_run(train.runs, other, "failed", [], timedelta(hours=2, minutes=30)),
    ]
    sweep = train.runs.parent / f"lr-{sweep_id([name[-10:] for name in names[:2]])}"
    sweep.mkdir()
    listed = [{"run_id": name[-10:], "folder": name, "status": "pending"} for name in names[:2]]
    (sweep / "sweep.json").write_text(json.dumps({"command": "", "runs": listed}))
    return train


def test_a_sweep_is_shown_without_its_deleted_runs(disk: CommandLine) -> None:
    (folder,) = disk.runs.parent.glob("lr-*")
    sweep, deleted = f"multirun_results/{folder.name}", next(disk.runs.glob("lr=0.1*"))
    renamed = next(disk.runs.glob("lr=0.01*"))
    before = disk.cifar_exp("table", sweep)
    assert "missing" not in before
    renamed.rename(disk.runs / f"renamed{renamed.name[-11:]}")
    assert disk.cifar_exp("table", sweep) == before
    shutil.rmtree(deleted)
    message = f"1 run is missing: {deleted.name}"
    output = disk.cifar_exp("table", sweep)
    assert message in output
    assert "0.7000" in output
    disk.cifar_exp("report", sweep)
    assert message in (disk.folder / sweep / "report.md").read_text()
    shutil.rmtree(disk.runs)
    output = disk.cifar_exp("table", sweep, status=1)
    assert "2 runs are missing" in output


def lines(output: str) -> list[list[str]]:
    """Return the words of each row of the table of runs."""
    table = output.split("\n\n")[0].splitlines()
    (rule,) = [number for number, line in enumerate(table) if set(line) == {"-", " "}]
    return [line.split() for line in table[rule + 1 :]]


def test_every_run_has_a_row_and_the_newest_is_first(disk: CommandLine) -> None:
    output = disk.cifar_exp("ls")
    newest, middle, oldest = lines(output)
    # the last two words are the size
    assert newest[1:-2] == ["failed", "optimizer=sgd", "momentum=0.5", "0/2", "2", "h"]
    assert middle[1:-2] == ["interrupted", "lr=0.1", "0.8000", "1/2", "5", "h"]
    assert oldest[1:-2] == ["complete", "lr=0.01", "seed=3", "0.7000", "2/2", "3", "d"]
    assert "\n\nshared settings: epochs=2\n\n" in output


def test_a_sweep_has_a_row_with_the_statuses_of_its_runs(disk: CommandLine) -> None:
    sweep = disk.cifar_exp("ls").split("\n\n")[-1].splitlines()[2]
    (folder,) = disk.runs.parent.glob("lr-*")
    words = [folder.name[-10:], "lr", "2", "1", "interrupted,", "1", "complete", "0.8000", "5", "h"]
    assert sweep.split()[:-2] == words


@pytest.mark.parametrize(
    ("arguments", "statuses"),
    [
        (["--status", "failed"], ["failed"]),
        (["--status", "failed", "--status", "complete"], ["failed", "complete"]),
        (["--where", "lr=1e-1"], ["interrupted"]),
        (["--where", "lr=high"], ["complete"]),  # the level is 0.01
        (["--where", "milestones=[75,150]", "--status", "failed"], ["failed"]),
        (["--where", "optimizer.lr=0.01"], ["complete"]),
        (["--where", "optimizer=sgd"], ["failed"]),
        (["--where", "seed=3", "--where", "lr=0.01"], ["complete"]),
        (["--where", "nesterov=true"], ["failed"]),  # Adam does not have this setting
        (["--where", "keep=last", "--sort", "lr"], ["complete", "failed", "interrupted"]),
        (["--where", "limit_test=null", "--sort", "lr"], ["complete", "failed", "interrupted"]),
        (["--sort", "accuracy"], ["interrupted", "complete", "failed"]),
        (["--sort", "momentum"], ["failed", "interrupted", "complete"]),
        (["--sort", "age", "--reverse"], ["complete", "interrupted", "failed"]),
        (["--sort", "status"], ["interrupted", "complete", "failed"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_runs_are_filtered_and_sorted(
    disk: CommandLine, arguments: list[str], statuses: list[str]
) -> None:
    assert [line[1] for line in lines(disk.cifar_exp("ls", *arguments))] == statuses


def test_a_sweep_is_shown_with_the_number_of_its_runs_that_match(disk: CommandLine) -> None:
    def words(*arguments: str) -> str:
        return " ".join(disk.cifar_exp("ls", *arguments).split())

    assert " lr 2 1 interrupted, 1 complete " in words()
    assert " lr 1 of 2 1 complete " in words("--where", "lr=0.01")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "=1"], "--where =1: expected KEY=VALUE, such as lr=0.1"),
        (["--where", "lrr=1"], "lrr: none of the runs has this setting. Did you mean lr?"),
        (["--where", "lr=hihg"], "--where lr=hihg: expected a number or one of article, high, low"),
        (["--where", "lr"], "--where lr: expected KEY=VALUE, such as lr=0.1"),
        (["--sort", "nonsense"], "nonsense: none of the runs has this setting"),
        (["--status", "done"], "--status done: expected one of pending, running, interrupted,"),
        (["--results", "nowhere"], "nowhere: folder not found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_reported(disk: CommandLine, arguments: list[str], message: str) -> None:
    assert disk.cifar_exp("ls", *arguments, status=1).startswith(message)


def test_json_contains_all_settings(disk: CommandLine) -> None:
    content = json.loads(disk.cifar_exp("ls", "--json", "--sort", "accuracy"))
    best = content["runs"][0]
    assert best["settings"]["optimizer.lr"] == 0.1
    assert (best["status"], best["test_accuracy"], best["epochs"]) == ("interrupted", 0.8, 1)
    folder = disk.runs / best["folder"]
    assert best["size_bytes"] >= sum(file.stat().st_size for file in folder.glob("*.*"))
    assert [len(sweep["listed"]) for sweep in content["sweeps"]] == [2]


def test_an_unreadable_run_does_not_hide_the_others(disk: CommandLine) -> None:
    broken = next(disk.runs.glob("lr=0.1,*"))
    (broken / "config.yaml").write_text("\x1b[2J")
    output = disk.cifar_exp("ls")
    assert len(lines(output)) == 2
    assert f"{broken.name}/config.yaml: expected the settings of a run" in output
    assert "\x1b" not in output


def test_nothing_to_list_is_said(disk: CommandLine) -> None:
    said = disk.cifar_exp("ls", "--status", "diverged")
    assert said == "multirun_results: no matching runs\n"


def test_rows_fit_the_terminal_and_only_settings_and_names_are_cut(disk: CommandLine) -> None:
    runs, _ = list_runs(disk.folder / "multirun_results")
    sweeps, _ = list_sweeps(disk.folder / "multirun_results", runs)
    for width in (80, 70):
        output = as_text(runs, sweeps, width)
        assert max(map(len, output.splitlines())) <= width
        assert len(lines(output)) == len(runs)
        assert all(run.name.rpartition("-")[2] in output for run in runs)
        assert all(sweep.name.rpartition("-")[2] in output for sweep in sweeps)


def test_a_search_is_listed_with_the_runs_of_its_trials(disk: CommandLine) -> None:
    results = disk.folder / "multirun_results"
    runs, _ = list_runs(results)
    trial = {"status": "complete", "value": 0.5, "epochs": 1, "params": {"lr": 0.1}, "reason": ""}
    names = [runs[0].name, None]
    found = {"winner": 0, "trials": 2, "found": [runs[1].name], "start": []}
    content = {
        "command": "train.py",
        "settings": {"metric": "accuracy", "sampler": "tpe", "pruner": "median"},
        "space": {"lr": "0.1 to 0.2"},
        "trials": [trial | {"number": at, "run": name} for at, name in enumerate(names)],
        "best": 0,
        "importance": {},
        "confirmations": [found],
    }
    folder = results / "search-0123456789"
    folder.mkdir()
    try:
        (folder / "search.json").write_text(json.dumps(content))
        (search,) = [one for one in list_sweeps(results, runs)[0] if one.name == folder.name]
        assert search.listed == runs[:2]
        assert search.runs == 2
        assert search.statuses == "1 interrupted, 1 complete"
        pruned = {"number": 0, "run": runs[1].name, "status": "pruned", "value": None}
        changed = content | {"trials": [trial | pruned], "best": None, "confirmations": []}
        (folder / "search.json").write_text(json.dumps(changed))
        again, _ = list_runs(results)
        assert [run.status for run in again] == [runs[0].status, "pruned", runs[2].status]
        (search,) = [one for one in list_sweeps(results, again)[0] if one.name == folder.name]
        assert search.statuses == "1 pruned"
        assert runs[1].name[-10:] in disk.cifar_exp("ls", "--status", "pruned")
        assert "no matching runs" in disk.cifar_exp("ls", "--status", "interrupted")
        assert "0123456789" in disk.cifar_exp("ls")
        (folder / "search.json").write_text("{")
        sweeps, unreadable = list_sweeps(results, runs)
        assert folder.name not in [one.name for one in sweeps]
        message = "expected the folder of a search, with a readable search.json"
        assert unreadable == [f"{folder}: {message}"]
        assert message in disk.cifar_exp("ls")
    finally:
        shutil.rmtree(folder)


def test_a_limited_list_ends_with_the_number_of_runs(disk: CommandLine) -> None:
    runs, _ = list_runs(disk.folder / "multirun_results")
    output = as_text(runs, [], most=2)
    assert len(lines(output)) == 2
    assert output.endswith("2 of 3 runs; use --all to list all")
    sweep = ListedSweep("lr-38afae4dc0", 1, runs[:1], runs[0].changed, 0)
    assert as_text(runs, [sweep] * 4, most=3).endswith("3 of 4 sweeps; use --all to list all")


def test_only_the_listed_runs_are_measured(
    disk: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Path] = []
    monkeypatch.setattr(
        "cifar_exp.reports.list_runs.size_bytes", lambda folder: measured.append(folder) or 0
    )
    runs, _ = list_runs(disk.runs.parent)
    as_text(runs, [], most=1)
    assert measured == [runs[0].record.folder.path]

"""Studies on the command line: their runs, and the messages of mistakes."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Study
from cifar_exp.runs.folder import RunFolder
from tests.conftest import TINY, CommandLine, read_state
from tests.processes import start_process

# A run of a tenth of a second; the studies set the number of epochs.
TINIEST = (
    *(word for word in TINY if not word.startswith(("epochs=", "data."))),
    "data.train_size=20",
    "data.test_size=10",
    "batch_size=10",
    "logger=none",
)
PATH = "Fotos, süß\\Müller"
MINE = {
    "name": "mine",
    "title": "My study",
    "question": "Does it?",
    "vary": {"lr": [0.001, 0.01]},
    "settings": {"training.epochs": 2, "data.augment": "none", "paths.logs": "my logs, here"},
    "seeds": [3, 5],
    "claims": [
        {"says": "It rises.", "metric": "final_train_loss", "expects": "rises"},
        {
            "says": "It is higher.",
            "metric": "final_train_loss",
            "expects": "higher",
            "at": 0.01,
            "than": 0.001,
        },
    ],
}


def write_jobs(path: Path, typed: list[str]) -> None:
    """Write the runs of a study as JSON; in a new process, since Hydra reloads plugins."""
    from cifar_exp.cli.study_sweeper import StudySweeper, overrides_of

    sweeper = StudySweeper(max_batch_size=None)
    sweeper.hydra_context = SimpleNamespace(config_loader=None)
    vary = {"lr": (0.001, 0.01)}
    settings = {"epochs": 2, "data.root": PATH}
    study = Study(name="mine", title="t", question="q", vary=vary, settings=settings, seeds=(3, 5))
    path.write_text(json.dumps(sweeper._jobs([*overrides_of(study, typed), *typed])))


@pytest.mark.parametrize(("typed", "seeds"), [([], [3, 5]), (["seed=7"], [7])])
def test_a_study_trains_every_level_with_every_seed(
    tmp_path: Path, typed: list[str], seeds: list[int]
) -> None:
    start_process(write_jobs, tmp_path / "jobs", typed).join()
    jobs = json.loads((tmp_path / "jobs").read_text())
    levels = ["lr=0.001", "lr=0.01"]
    settings = ["epochs=2", f'data.root="{PATH}"']
    assert jobs == [[*settings, level, f"seed={seed}"] for level in levels for seed in seeds]


def write_seeds(path: Path, typed: list[str]) -> None:
    """Write the study of some overrides as JSON; in a new process, see `write_jobs`."""
    from cifar_exp.cli.study_sweeper import StudySweeper

    sweeper = StudySweeper(max_batch_size=None)
    sweeper.hydra_context = SimpleNamespace(config_loader=None)
    node = OmegaConf.create(MINE | {"seeds": "auto"})
    ((study, runs),), _ = sweeper._jobs_of_study(node, typed)
    path.write_text(json.dumps([study.add_seeds, runs]))


@pytest.mark.parametrize(
    ("typed", "adds_seeds", "runs"),
    [
        ([], True, 6),
        (["seed=auto"], True, 6),
        (["seed=7,8"], False, 4),
        (["seed=7,7"], False, 2),
        (["lr=0.01,0.001", "seed=7"], False, 2),
    ],
)
def test_typed_seeds_are_fixed_and_count_once(
    tmp_path: Path, typed: list[str], adds_seeds: bool, runs: int
) -> None:
    start_process(write_seeds, tmp_path / "study", typed).join()
    assert json.loads((tmp_path / "study").read_text()) == [adds_seeds, list(range(runs))]


class Studies:
    """`python train.py study=NAME` with study files that a test writes."""

    def __init__(self, train: CommandLine) -> None:
        self._train = train
        (train.folder / "study").mkdir()

    def write(self, name: str, content: Any) -> None:
        (self._train.folder / "study" / f"{name}.yaml").write_text(yaml.safe_dump(content))

    def __call__(self, *overrides: str, status: int = 0) -> str:
        options = ("--config-dir", str(self._train.folder))
        return self._train(*options, *TINIEST, *overrides, status=status)

    def sweep(self, output: str) -> tuple[Path, dict[str, Any]]:
        """Return the folder of the sweep in the output, and its sweep.json."""
        (line,) = (line for line in output.splitlines() if line.startswith("sweep of "))
        folder = self._train.folder / line.rpartition(": ")[2]
        return folder, json.loads((folder / "sweep.json").read_text())

    def run(self, listed: dict[str, Any]) -> Path:
        """Return the folder of a run in sweep.json."""
        return self._train.runs / str(listed["folder"])

    def configs(self, output: str) -> dict[str, RunConfig]:
        """Return the settings of the runs of a sweep by run id."""
        _, listed = self.sweep(output)
        return {run["run_id"]: RunFolder(self.run(run)).read_config() for run in listed["runs"]}

    def points(self, output: str) -> list[tuple[float, int, int, str]]:
        return [
            (config.optimizer.lr, config.seed, config.training.epochs, config.data.augment)
            for config in self.configs(output).values()
        ]


@pytest.fixture
def studies(train: CommandLine) -> Studies:
    return Studies(train)


@pytest.mark.slow
@pytest.mark.integration
def test_the_runs_have_the_levels_and_seeds_of_the_study_unless_others_are_typed(
    studies: Studies,
) -> None:
    studies.write("mine", MINE)
    output = studies("study=mine")  # a study is a sweep without -m
    assert "sweep of 4 runs (0 finished before)" in output
    assert studies.points(output) == [
        (0.001, 3, 2, "none"),
        (0.001, 5, 2, "none"),
        (0.01, 3, 2, "none"),
        (0.01, 5, 2, "none"),
    ]
    logs = {Path(config.paths.logs).name for config in studies.configs(output).values()}
    assert logs == {"my logs, here"}
    folder, listed = studies.sweep(output)
    assert folder.name.startswith("mine-")
    assert (folder / "results.csv").exists()
    states = [read_state(studies.run(run)) for run in listed["runs"]]
    assert [state["status"] for state in states] == ["complete"] * 4
    # the report is made from the study in sweep.json
    (entry,) = listed["studies"]
    study = Study.model_validate_json(json.dumps(entry["study"]))
    assert study.vary == {"optimizer.lr": (0.001, 0.01)}
    assert [claim.says for claim in study.claims] == ["It rises.", "It is higher."]
    assert study.claims[1].at == 0.01
    assert entry["runs"] == [run["run_id"] for run in listed["runs"]]

    # other levels by name, another seed, and a setting by its short name
    typed = ("lr=high,too_high", "seed=7", "epochs=1")
    output = studies("-m", "study=mine", *typed)
    assert studies.points(output) == [(0.01, 7, 1, "none"), (0.1, 7, 1, "none")]


@pytest.mark.slow
@pytest.mark.integration
def test_runs_that_parts_share_are_trained_once(studies: Studies) -> None:
    base = {"title": "T", "question": "Q?", "settings": {"training.epochs": 1}, "seeds": [0]}
    studies.write("rate", base | {"name": "rate", "vary": {"lr": [0.001, 0.01]}})
    # the first level is the default, as in the other part
    studies.write("limit", base | {"name": "limit", "vary": {"data.limit_train": [None, 10]}})
    studies.write("both", {"defaults": ["rate@parts.rate", "limit@parts.limit"]})
    output = studies("study=both")
    assert "sweep of 3 runs" in output
    folder, listed = studies.sweep(output)
    assert folder.name.startswith("both-")
    assert len(list(folder.parent.glob("runs/*"))) == 3
    configs = studies.configs(output)
    by_study = {
        part["study"]["name"]: [
            (configs[run].optimizer.lr, configs[run].data.limit_train) for run in part["runs"]
        ]
        for part in listed["studies"]
    }
    assert by_study == {
        "rate": [(0.001, None), (0.01, None)],
        "limit": [(0.001, None), (0.001, 10)],
    }


@pytest.mark.slow
@pytest.mark.integration
def test_settings_of_a_study_can_have_short_names(studies: Studies) -> None:
    settings = {"epochs": 1, "weight_decay": 0.5, "dropout": "half"}  # a number, or a level's name
    studies.write("mine", MINE | {"settings": settings, "seeds": [0]})
    output = studies("study=mine", "lr=0.01", "weight_decay=0.25")
    (config,) = studies.configs(output).values()
    assert config.training.epochs == 1
    assert config.optimizer.weight_decay == 0.25
    assert config.model.dropout == 0.5


@pytest.mark.slow
@pytest.mark.integration
def test_a_study_varies_lists(studies: Studies) -> None:
    claim = {"says": "It is higher.", "metric": "final_train_loss", "expects": "higher"}
    levels = {"scheduler.milestones": [[1], [1, 2]]}
    claims = [claim | {"at": [1], "than": [1, 2]}]
    studies.write("mine", MINE | {"vary": levels, "claims": claims, "seeds": [0, 1]})
    output = studies("study=mine", "epochs=1")
    configs = studies.configs(output).values()
    assert [config.scheduler.milestones for config in configs] == 2 * [(1,)] + 2 * [(1, 2)]
    folder, _ = studies.sweep(output)
    assert "nats at \\[1\\]; " in (folder / "report.md").read_text()  # the claim's level


@pytest.mark.slow
@pytest.mark.integration
def test_levels_in_a_file_are_one_sweep_for_any_batch_size(
    studies: Studies, train: CommandLine
) -> None:
    (train.folder / "experiment").mkdir()
    params = {"lr": "0.1,0.3", "seed": [0, 1]}
    sweep = {"mode": "MULTIRUN", "sweeper": {"params": params, "max_batch_size": 2}}
    text = "# @package _global_\n" + yaml.safe_dump({"hydra": sweep})
    (train.folder / "experiment" / "mine.yaml").write_text(text)
    # overrides replace the levels of the file
    output = studies("experiment=mine", "epochs=1", "lr=0.2,0.01")
    assert output.count("sweep of 4 runs") == output.count("results.csv") == 1
    assert sorted(point[:2] for point in studies.points(output)) == [
        (0.01, 0),
        (0.01, 1),
        (0.2, 0),
        (0.2, 1),
    ]
    assert not (train.folder / "logs").exists()
    # a file that only some runs choose would set levels for all of them
    output = studies("-m", "experiment=mine,null", "epochs=1", status=1)
    assert output.startswith("hydra.sweeper: expected the same for all runs")


MISTAKES: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "an unknown key": (MINE | {"tite": "T"}, (), "study.tite: unknown setting"),
    "no levels": (MINE | {"vary": {"lr": []}}, (), "expected at least one level for every key"),
    "claims on two keys": (
        MINE | {"vary": {"lr": [0.1], "dropout": [0.0]}},
        (),
        "expected one key under `vary` in a study with claims",
    ),
    "a claim on another level": (
        MINE | {"vary": {"lr": [0.001, 0.1]}},
        (),
        "study: expected `at` and `than` among the levels 0.001, 0.1, got at: 0.01 and than: 0.001",
    ),
    "an unknown key to vary": (
        MINE | {"vary": {"optimizer.lrr": [0.1]}, "claims": []},
        (),
        "optimizer.lrr: unknown setting; did you mean optimizer.lr?",
    ),
    "a level out of range": (
        MINE | {"vary": {"lr": [0.1, -1]}, "claims": []},
        (),
        "optimizer.lr: expected a number greater than 0, got -1",
    ),
    "a misspelt name": (MINE, ("study=mien",), "did you mean mine?"),
    "an unknown key of the study": (MINE, ("study.foo=1",), "study.foo: unknown setting"),
    "a key that the file lacks": (
        MINE,
        ("study.max_seeds=abc",),
        'study.max_seeds: expected an integer, got "abc"',
    ),
    "more seeds than max_seeds": (
        MINE,
        ("study.seeds=[0,1,2]", "study.max_seeds=2", "seed=auto"),
        "study mine: expected 2 to 2 seeds, its max_seeds, at the start of seed=auto, got 3",
    ),
    "a further swept key": (
        MINE,
        ("dropout=0.0,0.5",),
        "dropout=0.0,0.5: expected one value, since study mine compares one run per lr and seed. "
        "Run the study once for each value.",
    ),
    "several at once": (MINE, ("study=mine,lr",), "study=mine,lr: expected one study"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_in_two_lines_and_nothing_is_trained(
    studies: Studies, train: CommandLine, mistake: str
) -> None:
    content, typed, message = MISTAKES[mistake]
    studies.write("mine", content)
    choice = () if any(word.startswith("study=") for word in typed) else ("study=mine",)
    output = studies(*choice, *typed, status=1)
    assert message in output
    assert len(output.strip().splitlines()) <= 2
    assert not train.runs.exists()


def test_a_study_file_with_a_package_line_is_refused(studies: Studies, train: CommandLine) -> None:
    text = f"# @package _global_\n{yaml.safe_dump(MINE)}"
    (train.folder / "study" / "mine.yaml").write_text(text)
    output = studies("study=mine", status=1)
    assert output == (
        "study=mine: its file sets no study. Remove its line `# @package _global_`.\n"
    )


def test_cfg_job_shows_the_first_run_of_a_study(studies: Studies, train: CommandLine) -> None:
    studies.write("mine", MINE)
    shown = studies("study=mine", "--cfg", "job")
    assert shown.startswith("# the first of 4 runs: ")
    assert "\n# the runs differ in optimizer.lr: 0.001, 0.01\n" in shown
    assert "\n# the runs differ in seed: 3, 5\n" in shown
    settings = yaml.safe_load(shown)
    assert (settings["optimizer"]["lr"], settings["seed"]) == (0.001, 3)
    assert settings["training"]["epochs"] == 2  # from the study
    assert "study" not in settings
    assert not train.runs.exists()


def test_a_part_of_a_study_can_be_deleted(studies: Studies) -> None:
    rate = MINE | {"seeds": [0]}
    studies.write("both", {"parts": {"rate": rate, "other": rate | {"vary": {"lr": [1.0]}}}})
    shown = studies("study=both", "~study.parts.other", "--cfg=job")
    assert shown.startswith("# the first of 2 runs: ")
    refused = studies("study=both", "~study.parts.rat", "--cfg=job", status=1)
    assert (
        refused == "~study.parts.rat: expected a key to delete, and study.parts has other, rate\n"
    )


def test_cfg_job_shows_the_first_run_of_a_sweep(train: CommandLine) -> None:
    shown = train(*TINIEST, "-m", "lr=0.1,0.01", "--cfg=job")
    assert shown.startswith("# the first of 2 runs: ")
    assert yaml.safe_load(shown)["optimizer"]["lr"] == 0.1
    refused = train("-m", "lr=0.1,0.01", "--cfg=job", "--package=model", status=1)
    assert refused.startswith("--package model: expected a single run. Leave out --package")
    assert not list(train.folder.iterdir())


def test_cfg_job_shows_the_first_run_of_an_experiment_that_is_a_sweep(
    train: CommandLine, tmp_path: Path
) -> None:
    file = tmp_path / "conf" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    hydra = {"mode": "MULTIRUN", "sweeper": {"params": {"lr": "0.1,1e-1,0.01"}}}
    content = {"defaults": ["demo"], "hydra": hydra}
    file.write_text(f"# @package _global_\n{yaml.safe_dump(content)}")
    shown = train("--config-dir", str(tmp_path / "conf"), "experiment=mine", "--cfg", "job")
    assert shown.startswith("# the first of 2 runs: ")
    assert yaml.safe_load(shown)["optimizer"]["lr"] == 0.1
    assert not train.runs.exists()


def test_cfg_job_is_refused_for_the_trials_of_a_search(train: CommandLine) -> None:
    output = train("-m", "experiment=search_demo", "--cfg", "job", status=1)
    assert output.startswith("--cfg job: expected no -m in a search")

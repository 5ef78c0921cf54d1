"""The recipes of docs/guide/extending.md, applied to a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "guide" / "extending.md"
RECIPES = (
    *("An optimizer", "A scheduler", "A data set", "A network", "A logger", "A metric"),
    *("A hyperparameter with a short name", "A claim", "A column of the tables"),
    "Where results are stored",
)
# For each existing file, the line before which the recipe inserts its text, and the line that lists
# all classes of a kind.
PLACES = {
    "cifar_exp/optimizers.py": ("Optimizer = ", "Optimizer = "),
    "cifar_exp/schedulers.py": ("Scheduler = ", "Scheduler = "),
    "cifar_exp/data/settings.py": ("Data = ", "Data = "),
    "cifar_exp/models/settings.py": ("Network = ", "Network = "),
    "cifar_exp/config/schema.py": ("    project: str", None),
    "cifar_exp/reports/table.py": ("    TableColumn(", None),
    "cifar_exp/config/metrics.py": ('        Metric("lr"', None),
    "cifar_exp/training/metrics.py": ("class MetricSums", None),
}
OVERRIDES = (
    *("optimizer=plain", "scheduler=linear", "data=noise", "model=perceptron", "logger=printed"),
    *("momentum=usual", "metrics=[confidence]", "epochs=1", "device=cpu", "experiment=on_scratch"),
)
PRINT_FACTS = """
import json
from pathlib import Path

from hydra import compose, initialize_config_dir
from cifar_exp.cli.command_line import adapted_hydra
from cifar_exp.config.study import load_studies
from cifar_exp.reports.table import as_text, ranked, report_rows
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import read_record

(folder,) = Path("scratch/results/runs").iterdir()
record = read_record(RunFolder(folder))
with adapted_hydra([]), initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
    (study,) = load_studies(compose("config", ["study=momentum"]).study)
print(json.dumps({
    "config": record.config.model_dump(mode="json"),
    "status": record.status,
    "name": folder.name,
    "table": as_text(ranked([record])),
    "report": report_rows([record], []),
    "confidence": record.rows[-1]["test_confidence"],
    "claims": [claim.says for claim in study.claims],
    "varies": list(study.vary),
}))
"""


def blocks() -> list[tuple[str, str]]:
    """Return the path and text of each code block of the page."""
    return re.findall(r'(?s)```\w+ title="([^"]+)"\n(.*?)```', PAGE.read_text())


def follow(recipe: tuple[str, str], project: Path) -> None:
    name, text = recipe
    file = project / name
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return
    before, kinds = PLACES[name]
    head, line, tail = file.read_text().partition(f"\n{before}")
    assert line, f"{name} has no line that begins with {before}"
    if kinds:
        (added,) = re.findall(r"(?m)^class (\w+)", text)
        kind, rest = tail.split("\n", 1)
        tail = f"{kind} | {added}\n{rest}"
        text += "\n"
    if before.startswith("    "):  # inside a class or a tuple
        comma = "," * ("(" in before)
        text = textwrap.indent(text.rstrip() + f"{comma}\n", re.match(" *", before)[0])
    elif not kinds:
        text += "\n\n"
    file.write_text(f"{head}\n{text}{before}{tail}")


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Results of a run that uses all additions of the page."""
    project = tmp_path_factory.mktemp("project")
    for folder in ("cifar_exp", "conf", "hydra_plugins"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(ROOT / "train.py", project)
    for recipe in blocks():
        follow(recipe, project)
    printed = python(project, "train.py", *OVERRIDES)
    return json.loads(python(project, "-c", PRINT_FACTS)) | {"printed": printed}


def python(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=os.environ | {"SCRATCH": "scratch", "PYTHONPATH": str(project), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_has_every_recipe() -> None:
    assert set(re.findall(r"(?m)^## (.+)$", PAGE.read_text())) == {*RECIPES}
    added = [name for name, _ in blocks() if name.endswith(".py")]
    assert set(PLACES) <= set(added)
    assert len(added) == len(PLACES) + 1  # the module of the logger


def test_optimizer_scheduler_data_set_and_network_train_a_run(facts: Any) -> None:
    config = facts["config"]
    assert facts["status"] == "complete"
    names = {section: config[section]["name"] for section in ("optimizer", "scheduler", "data")}
    assert names == {"optimizer": "plain", "scheduler": "linear", "data": "noise"}
    assert config["model"]["name"] == "perceptron"


def test_a_folder_of_levels_defines_a_short_name(facts: Any) -> None:
    assert facts["config"]["optimizer"]["momentum"] == 0.9
    assert "momentum=0.9" in facts["name"]
    assert facts["varies"] == ["optimizer.momentum"]


def test_a_metric_is_measured_and_shown_everywhere(facts: Any) -> None:
    assert 0.5 <= facts["confidence"] <= 1  # the larger of two probabilities
    assert "confidence" in facts["table"].splitlines()[0]
    assert any("confidence" in title for title in facts["report"][0])
    assert "confidence/test" in facts["printed"]


def test_a_logger_gets_each_run(facts: Any) -> None:
    lines = [line for line in facts["printed"].splitlines() if "printed:" in line]
    assert len(lines) == 3
    assert "loss/train" in lines[1]
    assert lines[2].endswith("complete")


def test_a_claim_is_added_to_its_study(facts: Any) -> None:
    assert facts["claims"] == ["With momentum the training loss ends lower."]


def test_a_column_is_added_to_the_table_and_the_report(facts: Any) -> None:
    assert "batch size" in facts["table"].splitlines()[0]
    assert facts["report"][0]["batch size"] == "64"


def test_an_experiment_sets_the_results_folder(facts: Any) -> None:
    assert facts["config"]["paths"]["results"] == "${oc.env:SCRATCH}/results"

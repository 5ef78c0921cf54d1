"""The files of a report."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cifar_exp.config.identity import run_id
from cifar_exp.config.load import to_yaml
from cifar_exp.config.schema import RunConfig, Training
from cifar_exp.data.settings import Cifar10, ImageFolder
from cifar_exp.optimizers import Adam
from cifar_exp.reports.content import read_report
from cifar_exp.reports.records import sweep_id
from cifar_exp.reports.render import check_report, write_report
from tests.conftest import ROOT
from tests.made import make_run, make_sweep

HOSTILE = (
    "<script>alert(1)</script> | [x](http://x.example) <img src=http://x.example> `a` \\| \n# b"
)
STUDY = {
    "name": "lr",
    "title": f"Rate {HOSTILE}",
    "question": f"Which {HOSTILE}?",
    "vary": {"optimizer.lr": [0.01, 0.1]},
    "claims": [
        {
            "says": f"More is better {HOSTILE}",
            "metric": "final_test_accuracy",
            "expects": "higher",
            "at": 0.1,
            "than": 0.01,
        }
    ],
    "reference": {
        "label": "<b>a</b> | `b`",
        "source": HOSTILE,
        "file": "a.csv",
        "text": "lr,epoch,test_accuracy\n0.01,2,0.55\n",
    },
}


def run(runs: Path, name: str, accuracy: float | None, **settings: Any) -> dict[str, str]:
    """Write the folder of a run, failed if `accuracy` is None; return its entry in sweep.json."""
    config = RunConfig(training=Training(epochs=2), **settings)
    folder = f"{name}-{run_id(config)}"
    (runs / folder).mkdir(parents=True)
    (runs / folder / "config.yaml").write_text(to_yaml(config))
    state: dict[str, Any] = {"status": "failed", "reason": f"no memory {HOSTILE}"}
    if accuracy is not None:
        state = {"status": "complete"}
        rows = [
            {
                "epoch": epoch,
                "train_loss": 1.0 - accuracy * epoch / 2,
                "train_accuracy": accuracy,
                "test_loss": 1.0,
                "test_accuracy": accuracy,
                "train_seconds": 1.0,
            }
            for epoch in (1, 2)
        ]
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (runs / folder / "metrics.jsonl").write_text(lines)
    (runs / folder / "run.json").write_text(json.dumps(state))
    return {"run_id": run_id(config), "folder": folder, "status": state["status"]}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A study of two levels with two seeds and one failed run; all names are hostile."""
    data = ImageFolder(root=f"images {HOSTILE}")
    name = HOSTILE.replace("/", "").replace("\n", "")
    runs = [
        run(tmp_path / "runs", name, accuracy, data=data, optimizer=Adam(lr=lr), seed=seed)
        for lr, accuracies in {0.01: (0.5, 0.6), 0.1: (0.7, None)}.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    folder = tmp_path / f"lr-{sweep_id([run['run_id'] for run in runs])}"
    folder.mkdir()
    studies = [{"study": STUDY, "runs": [run["run_id"] for run in runs]}]
    content = {"command": f"train.py '{HOSTILE}'", "runs": runs, "studies": studies}
    (folder / "sweep.json").write_text(json.dumps(content))
    return folder


class Tags(HTMLParser):
    """Collect the tags of a page with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_hostile_names_as_text_and_loads_no_files(sweep: Path) -> None:
    source = write_report(sweep).read_text("utf-8")
    page = Tags(source)
    # title, question, claim, reason, command and the settings
    assert page.text.count("<script>alert(1)</script>") >= 6
    names = [tag for tag, _ in page.tags]
    assert names.count("h1") == 1
    assert not {"script", "iframe", "object", "embed", "form"} & set(names)
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert "http:" not in (attributes.get("href") or ""), tag
        assert "src" not in attributes
        assert not str(attributes.get("xlink:href", "#")).strip("#").startswith(("http", "data"))
    assert names.count("svg") >= 3
    (style,) = re.findall(r"<style>.*?</style>", source, re.S)
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_names_cannot_break_the_markdown(sweep: Path) -> None:
    write_report(sweep)
    lines = (sweep / "report.md").read_text("utf-8").splitlines()
    tables: list[set[int]] = [set()]
    for line in lines:
        if line.startswith("|"):
            tables[-1].add(len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)))
        elif tables[-1]:
            tables.append(set())
    assert [len(bars) for bars in tables if bars] == [
        1
    ] * 6  # all rows of a table have the same number of cells
    shown = "\n".join(line for line in lines if not line.startswith("    "))  # without code
    assert "<" not in shown
    assert not re.search(r"(?<!\\)\]\(http", shown)
    assert [line for line in lines if line.startswith("# ")] == [lines[0]]
    figures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", shown)
    assert figures
    assert all((sweep / path).is_file() for path in figures)


def test_the_same_runs_give_the_same_bytes_and_a_check_finds_differences(sweep: Path) -> None:
    page = write_report(sweep)
    written = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    assert {path.name for path in written} >= {"report.html", "report.md", "lr-curves-test.svg"}
    page.unlink()
    (sweep / "report.md").write_text("edited")
    assert check_report(sweep) == [page, sweep / "report.md"]
    write_report(sweep)
    assert {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()} == written


def test_legends_list_levels_as_the_tables_do() -> None:
    report = read_report(ROOT / "multirun_results" / "published" / "article-4410ae6e87")
    rates = next(section for section in report.sections if section.title == "Learning rate")
    (legend,) = rates.figures[0].draw().legends
    expected = [row["lr"] for row in rates.summary]
    assert expected == ["0.001", "0.0001", "0.01", "0.1"]
    assert [text.get_text() for text in legend.get_texts()] == expected


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_note_on_intervals_is_written_only_if_there_are_any(tmp_path: Path, seeds: int) -> None:
    runs = [
        make_run(tmp_path, optimizer=Adam(lr=lr), seed=seed)
        for lr in (0.01, 0.1)
        for seed in range(seeds)
    ]
    (section,) = read_report(make_sweep(tmp_path, runs)).sections
    assert section.note.startswith("There are no claims")
    assert ("Each interval is that of a single level." in section.note) is (seeds > 1)


def test_reports_of_several_settings_have_curves_of_the_best_combinations(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, optimizer=Adam(lr=lr), data=Cifar10(batch_size=size))
        for lr in (0.1, 0.01)
        for size in (16, 32, 64, 128)
    ]
    (section,) = read_report(make_sweep(tmp_path, runs)).sections
    curves = [figure for figure in section.figures if "curves" in figure.name]
    assert [figure.name for figure in curves] == ["curves-train", "curves-test"]
    assert "6 best combinations of batch_size, lr" in curves[0].caption
    assert len(curves[0].draw().legends[0].get_texts()) == 6


def test_failed_runs_are_named_before_the_verdicts(sweep: Path) -> None:
    page = Tags(write_report(sweep).read_text("utf-8")).text
    runs = json.loads((sweep / "sweep.json").read_text())["runs"]
    (failed,) = [run["run_id"] for run in runs if run["status"] == "failed"]
    for text in (page, (sweep / "report.md").read_text("utf-8")):
        assert text.index(failed) < text.index("no memory") < text.index("not tested")


def test_published_values_are_in_a_table_with_their_source(sweep: Path) -> None:
    page = Tags(write_report(sweep).read_text("utf-8")).text
    for text in (page, (sweep / "report.md").read_text("utf-8")):
        table = text[text.index("epochs within") :]
        assert "55.0 % ± 110.0 % (n = 2)" in table.replace("\xa0", " ")
        assert "reproduced within the spread of seeds" in table
        assert "Source of the values of" in table
        assert "prediction interval" in table


def test_parts_of_the_same_name_have_their_own_figures(sweep: Path) -> None:
    file = sweep / "sweep.json"
    content = json.loads(file.read_text())
    (part,) = content["studies"]
    content["studies"] = [part, part | {"runs": part["runs"][:2]}]
    file.write_text(json.dumps(content))
    write_report(sweep)
    curves = [(sweep / "figures" / f"{n}-lr-curves-train.svg").read_text() for n in (1, 2)]
    assert curves[0] != curves[1]


def test_obsolete_figures_are_removed_and_files_of_the_user_are_kept(sweep: Path) -> None:
    write_report(sweep)
    figures = sweep / "figures"
    made = sorted(figures.iterdir())
    (figures / "old.svg").write_text("old")
    (figures / "notes.txt").write_text("mine")
    (figures / "mine.png").write_text("mine")
    (sweep.parent / "precious.png").write_text("elsewhere")
    report = sweep / "report.md"
    outside = "![x](figures/%2e%2e%2f%2e%2e%2fprecious.png)"
    report.write_text(f"{report.read_text()}![old](figures/old.png)\n{outside}\n")
    assert check_report(sweep) == [report, figures / "old.svg"]
    write_report(sweep)
    mine = [figures / "notes.txt", figures / "mine.png"]
    assert sorted(figures.iterdir()) == sorted([*made, *mine])
    assert (sweep.parent / "precious.png").exists()

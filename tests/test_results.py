"""The committed reports follow from their runs, and the index lists their verdicts."""

import re
import shutil
from pathlib import Path

import pytest

from cifar_exp.errors import UserError
from cifar_exp.reports.content import read_report
from cifar_exp.reports.render import check_report
from cifar_exp.runs.find import find_sweep, run_folders

RESULTS = Path(__file__).parents[1] / "multirun_results"
INDEX = (RESULTS / "README.md").read_text()
COMMITTED = [RESULTS / name for name in re.findall(r"\]\(([^)]+)/report.md\)", INDEX)]


@pytest.mark.integration
@pytest.mark.parametrize("sweep", COMMITTED, ids=lambda path: path.name)
def test_a_committed_report_equals_the_one_made_from_its_runs(sweep: Path) -> None:
    # figures, also those in report.html, depend on the version of Matplotlib
    assert sweep / "report.md" not in check_report(sweep)


@pytest.mark.parametrize("sweep", COMMITTED, ids=lambda path: path.name)
def test_the_index_lists_every_claim_with_its_verdict(sweep: Path) -> None:
    results = [r for section in read_report(sweep).sections for r in section.claim_results]
    assert results
    for result in results:
        assert f"| {result.claim.says} | {result.verdict} |" in INDEX


def test_there_are_committed_results() -> None:
    assert COMMITTED


def test_committed_results_are_not_listed_among_the_users(tmp_path: Path) -> None:
    shutil.copytree(RESULTS / "published", tmp_path / "published")
    assert run_folders(tmp_path) == []
    for sweep in COMMITTED:
        with pytest.raises(UserError, match="has no sweeps"):
            find_sweep(sweep.name, tmp_path)
        assert find_sweep(sweep.name, tmp_path / "published")
    ignored = (RESULTS.parent / ".gitignore").read_text().splitlines()
    assert "/multirun_results/*" in ignored
    kept = [line for line in ignored if line.startswith("!/multirun_results/")]
    assert kept == ["!/multirun_results/README.md", "!/multirun_results/published/"]

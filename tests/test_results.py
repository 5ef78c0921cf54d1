"""The committed reports follow from their runs, and the index lists their verdicts."""

import re
import shutil
from pathlib import Path

import pytest

from cifar_exp.errors import UserError
from cifar_exp.reports.content import read_report
from cifar_exp.reports.render import markdown
from cifar_exp.runs.find import find_sweep, run_folders

RESULTS = Path(__file__).parents[1] / "multirun_results"
INDEX = (RESULTS / "README.md").read_text()
COMMITTED = [RESULTS / name for name in re.findall(r"\]\(([^)]+)/report.md\)", INDEX)]


@pytest.mark.integration
@pytest.mark.parametrize("sweep", COMMITTED, ids=lambda path: path.name)
def test_a_committed_report_follows_from_its_runs_and_the_index_lists_its_verdicts(
    sweep: Path,
) -> None:
    report = read_report(sweep)
    # figures, also those in report.html, depend on the version of Matplotlib
    assert markdown(report) == (sweep / "report.md").read_text()
    results = [result for section in report.sections for result in section.claim_results]
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

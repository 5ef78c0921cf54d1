"""The committed results are what their runs give, and the index tells them."""

import re
from pathlib import Path

import pytest

from cifar_exp.studies.render import check_report
from cifar_exp.studies.report import read_report

RESULTS = Path(__file__).parents[1] / "multirun_results"
INDEX = (RESULTS / "README.md").read_text()
COMMITTED = [RESULTS / name for name in re.findall(r"\]\(([^)/]+)/report.md\)", INDEX)]


@pytest.mark.integration
@pytest.mark.parametrize("sweep", COMMITTED, ids=lambda path: path.name)
def test_a_committed_report_is_what_its_runs_give(sweep: Path) -> None:
    # figures change with the version of Matplotlib, and the page holds them
    assert sweep / "report.md" not in check_report(sweep)


@pytest.mark.parametrize("sweep", COMMITTED, ids=lambda path: path.name)
def test_the_index_tells_every_claim_with_its_verdict(sweep: Path) -> None:
    findings = [f for section in read_report(sweep).sections for f in section.findings]
    assert findings
    for finding in findings:
        assert f"| {finding.claim.says} | {finding.verdict} |" in INDEX


def test_there_are_committed_results() -> None:
    assert COMMITTED

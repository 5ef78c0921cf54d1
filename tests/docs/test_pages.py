"""The site builds without broken links, and the reference matches the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.reference.generate import ENVIRONMENT, pages
from tests.conftest import ROOT
from tests.docs.commands import PAGES, README


def test_the_reference_matches_the_code() -> None:
    for path, text in pages().items():
        assert path.read_text() == text, f"{path.name}: run `python -m docs.reference.generate`"


def test_every_setting_has_a_description() -> None:
    for text in pages().values():
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        assert rows
        assert not [row for row in rows if row.endswith("|  |")]


def test_every_environment_variable_that_the_code_reads_is_in_the_reference() -> None:
    files = [
        ROOT / "train.py",
        *ROOT.glob("cifar_exp/**/*.py"),
        *ROOT.glob("hydra_plugins/**/*.py"),
    ]
    used = {
        name
        for file in files
        for name in re.findall(r"environ(?:\.\w+\(|\[)\"(\w+)\"", file.read_text())
    }
    assert "HYDRA_FULL_ERROR" in used
    assert used <= set(ENVIRONMENT), "add them to ENVIRONMENT in docs/reference/generate.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # such as broken links and anchors
    return folder


@pytest.mark.integration
def test_the_site_has_every_page_and_loads_nothing_from_other_sites(site: Path) -> None:
    for page in PAGES[1:]:
        html = (site / page.relative_to(ROOT / "docs")).with_suffix(".html").read_text()
        # plain links to other sites are allowed
        assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//", html)
        assert not re.findall(r"<link[^>]+(?:stylesheet|preconnect|icon)[^>]+\"https?://", html)


@pytest.mark.integration
def test_cells_of_the_reference_name_their_column(site: Path) -> None:
    html = (site / "reference" / "settings.html").read_text()
    assert '<td data-label="key"><code>seed</code></td>' in html
    assert '<td data-label="default"><code>0</code></td>' in html


def test_lists_and_tables_follow_an_empty_line() -> None:
    for page in PAGES[1:]:  # Markdown of the site needs it
        text = re.sub(r"(?s)```.*?```", "", page.read_text())
        assert not re.findall(r"(?m)^(?![-*|>#\s]|\d+\.).+\n(?:[-*|] |\d+\. |\|).*", text), page


def test_links_and_images_of_the_readme_exist() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README.read_text())
    assert len(targets) >= 5
    for target in targets:
        if not target.startswith("https://"):
            assert (ROOT / target.partition("#")[0]).exists(), target


def test_every_option_of_a_group_is_named_in_the_readme() -> None:
    for file in (ROOT / "conf").glob("*/*.yaml"):
        assert f"`{file.stem}`" in README.read_text(), file

"""TensorBoard's pages in a browser; skipped without Chromium."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from cifar_exp.config.schema import Paths, RunConfig
from cifar_exp.loggers.base import LoggedRun
from cifar_exp.loggers.hparams import declare
from cifar_exp.loggers.tensorboard import TensorBoard
from cifar_exp.optimizers import Adam
from tests.made import an_epoch

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]
TIMEOUT_MILLISECONDS = 60_000


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rates with two seeds each; the second rate is better and has an interrupted run."""
    logs = tmp_path_factory.mktemp("logs")
    runs = [
        RunConfig(optimizer=Adam(lr=rate), seed=seed, paths=Paths(logs=str(logs)))
        for rate in (0.1, 0.025)
        for seed in (0, 1)
    ]
    declare(runs)
    for config, accuracy in zip(runs, (0.25, 0.75, 0.8, 0.9), strict=True):
        run_logger = TensorBoard()
        run_logger.begin(LoggedRun(config, {"python": "3.11"}, (), logs))
        run_logger.epoch(an_epoch(1, accuracy))
        run_logger.end("complete" if accuracy < 0.9 else "interrupted", {})
    return logs


@pytest.fixture(scope="module")
def address(logs: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={logs}", "--port=0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            line = next(line for line in server.stderr if " at http://" in line)
            address = re.search(r"http://\S+", line)[0]
            while len(_runs(address)) < 5:  # until all runs are read
                time.sleep(0.1)
            yield address
        finally:
            server.kill()


def _runs(address: str) -> list[str]:
    with urlopen(f"{address}data/runs") as response:
        return json.load(response)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright.expect.set_options(timeout=TIMEOUT_MILLISECONDS)
    with playwright.sync_playwright() as tools:
        # root in a container cannot use the sandbox
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1500, "height": 950})
    page.set_default_timeout(TIMEOUT_MILLISECONDS)
    page.goto(address)
    yield page
    page.close()


def test_hparams_has_rows_check_boxes_and_plots(page: Any) -> None:
    page.get_by_role("tab", name="HParams").click()
    table = page.locator("tf-hparams-table-view")
    worse = table.get_by_text("0.50000").locator("visible=true")  # the mean of 0.25 and 0.75
    better = table.get_by_text("0.85000").locator("visible=true")
    playwright.expect(worse).to_have_count(1)
    playwright.expect(better).to_have_count(1)
    pane = page.locator("tf-hparams-query-pane")
    for word in ("lr", "0.025000", "0.10000", "test accuracy", "Success", "Failure"):
        playwright.expect(pane.get_by_text(word, exact=True).first).to_be_visible()
    assert pane.get_by_text("weight_decay").count() == 0  # the same in all runs

    pane.get_by_text("0.10000", exact=True).click()
    playwright.expect(worse).to_have_count(0)
    playwright.expect(better).to_have_count(1)
    pane.get_by_text("0.10000", exact=True).click()

    page.get_by_text("PARALLEL COORDINATES VIEW").click()
    lines = page.locator("tf-hparams-parallel-coords-plot g.foreground path")
    playwright.expect(lines).to_have_count(2)
    page.get_by_text("SCATTER PLOT MATRIX VIEW").click()
    points = page.locator("tf-hparams-scatter-plot-matrix-plot .data-marker")
    playwright.expect(points.first).to_be_visible()


def test_the_sidebar_shows_whole_names(page: Any, logs: Path) -> None:
    names = {folder.name for folder in logs.iterdir() if folder.is_dir()}
    assert len(names) == 5  # four runs and the HParams file
    for name in names:
        shown = page.locator("runs-data-table, runs-table").get_by_text(name, exact=True)
        playwright.expect(shown.first).to_be_visible()
        # the name fits into the column
        assert shown.first.evaluate("it => it.scrollWidth <= it.clientWidth + 1")

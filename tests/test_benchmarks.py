"""The benchmarks run without errors. The measured values are not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


TITLES = {
    "epochs": ["One run"],
    "parts": ["Parts of a step", "Parts of a step"],
    "input": ["Input pipeline"],
    "start": ["Start"],
    "packed": ["Many runs at once"],
    "threads": ["Threads of one run"],
}


def measure(folder: Path, environment: dict[str, str], *options: str) -> str:
    command = [sys.executable, BENCHMARKS / "run.py", "--quick", "--results", folder, *options]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.integration
@pytest.mark.parametrize(
    "sections",
    [
        ["epochs", "parts", "input"],
        pytest.param(["start", "packed", "threads"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_every_section_is_measured_on_the_cpu_and_saved(
    tmp_path: Path, sections: list[str]
) -> None:
    output = measure(tmp_path, dict(os.environ), "--only", *sections)
    (numbers,) = tmp_path.glob("*.json")
    (text,) = tmp_path.glob("*.md")
    assert numbers.stem == text.stem
    assert text.stem.startswith("cpu-")
    assert text.stem.endswith("-quick")  # does not overwrite a full measurement
    tables = json.loads(numbers.read_text())["tables"]
    titles = [table["title"].split(":")[0] for table in tables]
    assert titles == [title for section in sections for title in TITLES[section]]
    assert all(table["rows"] for table in tables)
    for table in tables:
        assert table["title"] in output
        assert table["title"] in text.read_text()
    assert "the numbers are meaningless" in text.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "table", "row"),
    [
        ("scale.py", ["--counts", "2"], "scale.md", "| a finished sweep repeated"),
        (
            "disturbed.py",
            ["--quick", "--repeats=1"],
            "disturbed-quick.md",
            "| interrupted and resumed",
        ),
        ("peers/peers.py", ["--quick", "--only", "article"], "peers-quick.md", "| the article's"),
    ],
)
def test_whole_commands_are_measured(
    tmp_path: Path, script: str, options: list[str], table: str, row: str
) -> None:
    command = [sys.executable, BENCHMARKS / script, *options, "--results", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert row in (tmp_path / table).read_text()


@pytest.mark.gpu
@pytest.mark.integration
@pytest.mark.parametrize(
    "sections",
    [["epochs", "parts", "input"], pytest.param(["start", "packed"], marks=pytest.mark.slow)],
    ids=" ".join,
)
def test_every_section_is_measured_on_a_gpu(
    tmp_path: Path, gpu_environment: dict[str, str], sections: list[str]
) -> None:
    measure(tmp_path, gpu_environment, "--device", "cuda", "--only", *sections)
    (numbers,) = tmp_path.glob("*.json")
    assert all(table["rows"] for table in json.loads(numbers.read_text())["tables"])


def test_our_epochs_use_the_threads_of_a_run_and_the_articles_use_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    import epochs
    from bench import Bench
    from measure import using_threads

    bench = Bench(torch.device("cpu"), None, True, tmp_path)
    seen = []
    with using_threads(3):
        training = bench.training(bench.config(bench.data(64, 10), 1 / 64))
        training.model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
        epochs._our_epoch(bench, training.run(), training.compute.threads)
        assert set(seen) == {1}
        assert torch.get_num_threads() == 3


def test_the_articles_loop_disables_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from article_loop import ArticleLoop

    images, labels = np.zeros((2, 32, 32, 3), np.uint8), [0, 1]
    loop = ArticleLoop((images, labels), (images, labels), torch.device("cpu"), width=1 / 16)
    seen = []
    loop.model.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    before = torch.backends.cudnn.allow_tf32
    loop.epoch()
    assert seen == [False, False]  # one training batch, one test batch
    assert torch.backends.cudnn.allow_tf32 == before

"""The commands of README.md and docs/, and the replacements that tests run for expensive ones.

Commands are the lines of ```bash blocks, and inline code that begins with `python`, except
patterns: `python train.py study=NAME`, `HYDRA_FULL_ERROR=1 python train.py ...`. A block of YAML,
TOML or Python is a file that the reader writes. The paragraph above the block names it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
# The integration tests run the commands of these pages, and the slow tests those of all pages.
PAGES_RUN = [README, ROOT / "docs" / "tutorial.md"]


@dataclass(frozen=True)
class Rule:
    """Replacement for commands that match `pattern` anywhere."""

    pattern: str
    replacement: str | None  # replaces the match; None: the command is not run
    reason: str


RULES = [
    Rule(r"^git clone ", None, "needs a network"),
    Rule(r"python3 -m venv|pip install|activate$", None, "takes minutes; .ci/run installs"),
    Rule(r"python -m pytest|bash \.ci/run", None, "runs this test"),
    Rule(r"benchmarks/\w+\.py", None, "takes minutes; test_benchmarks.py runs it small"),
    Rule(r"^tensorboard ", "tensorboard --inspect ", "runs until it is stopped"),
    Rule(
        r"multirun_results/(lr|width)-[0-9a-f]{10}",
        r"$(ls -td multirun_results/\1-* | head -1)",
        "has another id at the small size",
    ),
    Rule(r"n_trials=20", "n_trials=4", "continues the three trials of the previous command"),
    Rule(
        r"(table|report) 38afae4dc0",
        r"\1 $(ls -td multirun_results/lr-* | head -1)",
        "has another id at the small size",
    ),
    Rule(
        r"compare d0f285f6f0 d48f18",
        "compare $(ls multirun_results/runs | grep synthetic | head -2)",
        "have other names at the small size",
    ),
    Rule(
        r"(evaluate|predict|export) (\S*epochs=\d+,model|e6b90e|d0f285f6f0)",
        r"\1 $(ls -td multirun_results/runs/* | head -1)",
        "has another name at the small size",
    ),
    Rule(r"model\.init=4cfefab452", None, "needs the id of a run with the same network"),
    Rule(r"python -m cifar_exp$", None, "names the program"),
    Rule(r"python -m docs", None, "writes the pages; another test compares them"),
    Rule(r"device[ =]cuda", None, "needs a GPU"),
    Rule(r"seed=0,1,2\S*", "seed=0,1", "two seeds give an interval"),
    Rule(r"(study=lr)(?=\s)(?!.* lr=)", r"\1 lr=0.001,0.1", "two levels give a verdict"),
]


class Slow(NamedTuple):
    """Commands that only the slow tests run."""

    pattern: str
    reason: str


SLOW = [
    Slow(r"study=article", "is 34 runs"),
    Slow(r"seed=0,1,2,3,4", "two seeds are enough elsewhere"),
    Slow(r"-m hydra/sweeper=optuna|experiment=search_demo", "test_search.py tests it"),
    Slow(r"optimizer=adam,sgd seed=0,1,2", "is four more runs"),
    Slow(r"-m optimizer\.lr=0\.1,0\.01,0\.001", "is the demo's sweep on CIFAR-10"),
    Slow(r"study=lr +#", "equals experiment=demo at the small size"),
    Slow(r"seed=[34] logger=", "an earlier sweep uses the same logger"),
    Slow(r"lr=glob\(\*\)", "is four runs"),
    Slow(r"experiment=best", "is a large network"),
]


class Size(NamedTuple):
    """Override that makes a training small, unless the command matches a pattern."""

    override: str
    unless: str
    reason: str


NOT_SYNTHETIC = r"data=(?!synthetic)|data\._target_"
SIZES = [
    Size("data=synthetic", rf"experiment=\w*demo|{NOT_SYNTHETIC}", "CIFAR-10 is a download"),
    Size("data.train_size=1024", rf"^(?!.*study=article)|{NOT_SYNTHETIC}", "its largest batch"),
    Size("data.train_size=256", rf"study=article|{NOT_SYNTHETIC}", "a second instead of minutes"),
    Size("data.test_size=200", NOT_SYNTHETIC, "a second instead of minutes"),
    Size("data.limit_train=null", r"^(?!.*experiment=small)", "fewer than 5,000 images"),
    Size("data.limit_test=null", r"^(?!.*experiment=small)", "fewer than 2,000 images"),
    Size("model.width=0.0625", r"study=width|~model\.width|model\._target_|=my_net", "small"),
    Size("epochs=1", r"epochs=[1-5]\b", "a second instead of minutes"),
    Size("hydra.sweeper.n_trials=3", r"^(?!.*search_demo)|n_trials", "three trials have a best"),
    Size("hydra.sweeper.confirm=2", r"^(?!.*search_demo)", "two seeds give an interval"),
    Size("seed=0,1", r"seed=|^(?!.*study=)", "two seeds give an interval"),
]
TRAINS = r"python train\.py(?!.*(--cfg|--help|--hydra-help|--info))"


@dataclass(frozen=True)
class Command:
    page: str
    text: str

    @property
    def slow(self) -> bool:
        return any(re.search(slow.pattern, self.text) for slow in SLOW)

    @property
    def run_as(self) -> str | None:
        """The command that tests run; None if it is not run."""
        text: str | None = self.text
        for rule in RULES:
            if text is not None and re.search(rule.pattern, text):
                new = rule.replacement
                text = None if new is None else re.sub(rule.pattern, new, text)
        if text is None or not re.search(TRAINS, text):
            return text
        small = [size.override for size in SIZES if not re.search(size.unless, text)]
        without_comment = re.sub(r"\s+#.*", "", text)
        return " ".join([without_comment, *small])


class File(NamedTuple):
    """A file that the reader writes."""

    path: str
    text: str


def steps(page: Path) -> Iterator[Command | File]:
    """Yield the commands and files of a page in order."""
    name = str(page.relative_to(ROOT))
    # blocks with a title are changes of the project; tests/test_extending.py applies them
    text = re.sub(r"(?ms)^```\w+ title=.*?^```$", "", page.read_text())
    blocks = re.split(r"(?ms)^```(\w+)[^\n]*\n(.*?)^```$", text)
    for text, kind, block in zip(
        blocks[::3], [*blocks[1::3], ""], [*blocks[2::3], ""], strict=True
    ):
        if kind in ("yaml", "toml", "python"):
            paragraph = text.rstrip().rpartition("\n\n")[2]
            for path in re.findall(r"`([\w./-]+\.(?:yaml|toml|py))`", paragraph)[-1:]:
                yield File(path, block)
        yield from (Command(name, code) for code in inline_commands(text))
        if kind == "bash":
            lines = re.sub(r"\\\n\s*", " ", block).splitlines()
            yield from (Command(name, line) for line in lines if re.match(r"\s*[^\s#]", line))


def inline_commands(text: str) -> Iterator[str]:
    for code in re.findall(r"`((?:[A-Z_]+=\S+ )?python [^`\n]*)`", text):
        if "..." not in code and not re.search(r"\b[A-Z]{3,}\b(?!=)", code):
            yield code


def commands(page: Path) -> list[Command]:
    return [step for step in steps(page) if isinstance(step, Command)]


ALL = [command for page in PAGES for command in commands(page)]


def _composed() -> dict[Path, list[str]]:
    """Return the commands of each page that are composed, without those of earlier pages."""
    seen: set[str] = set()
    composed: dict[Path, list[str]] = {}
    for page in PAGES:
        for command in commands(page):
            text = re.sub(r"\s+#.*", "", command.text)
            if re.match(r"python (train\.py|-m cifar_exp \S)", text) and text not in seen:
                seen.add(text)
                composed.setdefault(page, []).append(text)
    return composed


COMPOSED = _composed()

"""Measure this project against the article's training loop.

    python benchmarks/run.py                     the CPU, synthetic images, about nine minutes
    python benchmarks/run.py --device cuda --data FOLDER --only epochs parts

Results are written to benchmarks/results/: tables as Markdown, and all numbers as JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import epochs
import input_pipeline
import packed
import parts
import start
import threads
import torch
from bench import Bench
from measure import Table, facts, slug

_RESULTS = Path(__file__).parent / "results"
_SECTIONS = {
    "epochs": epochs.tables,
    "parts": parts.tables,
    "input": input_pipeline.tables,
    "start": start.tables,
    "packed": packed.tables,
    "threads": threads.tables,
}
_HOW_TO_READ = (
    "Each value is a median, with the lowest and the highest of n measurements in parentheses. "
    "Ratios are of consecutive measurements."
)
_QUICK = "**Measured with --quick, a test of the benchmark: the numbers are meaningless.**"


def main() -> None:
    """Measure the selected sections."""
    arguments = _parser().parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: PyTorch finds no CUDA device")
    # with an index, as in the settings of a run
    device = torch.device("cuda", 0) if arguments.device == "cuda" else torch.device("cpu")
    chosen = [name for name in _SECTIONS if name in (arguments.only or _SECTIONS)]
    known = facts(device) | {"images": "synthetic" if arguments.data is None else "image folder"}
    print(_head(known, arguments.quick), flush=True)
    started, tables = time.monotonic(), []
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.data and arguments.data.resolve()
        bench = Bench(device, folder, arguments.quick, Path(scratch))
        for name in chosen:
            for table in _SECTIONS[name](bench):
                print(table.as_markdown(), flush=True)
                tables.append(table)
    known["measured in"] = f"{time.monotonic() - started:.0f} s"
    words = [arguments.device, slug(known), *((arguments.only and chosen) or ())]
    path = arguments.results / "-".join([*words, *["quick"] * arguments.quick])
    _write(path, known, tables, arguments.quick)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="image folder (default: synthetic images)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="measure little, to test the benchmark"
    )
    parser.add_argument(
        "--only", nargs="+", choices=_SECTIONS, metavar="NAME", help=", ".join(_SECTIONS)
    )
    parser.add_argument(
        "--results", type=Path, default=_RESULTS, metavar="FOLDER", help="folder for the results"
    )
    return parser


def _head(known: dict[str, str], quick: bool) -> str:
    lines = [f"- {name}: {text}" for name, text in known.items()]
    text = "\n".join(["# Measured", "", *lines, "", _HOW_TO_READ, ""])
    return f"{text}\n{_QUICK}\n" if quick else text


def _write(path: Path, known: dict[str, str], tables: list[Table], quick: bool) -> None:
    """Write the Markdown and the JSON file. Names may contain dots, so suffixes are appended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    markdown = "\n".join([_head(known, quick), *(table.as_markdown() for table in tables)])
    Path(f"{path}.md").write_text(markdown, encoding="utf-8")
    content = {"facts": known, "tables": [{"title": t.title, "rows": t.raw} for t in tables]}
    Path(f"{path}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{path}.md\n{path}.json")


if __name__ == "__main__":
    main()

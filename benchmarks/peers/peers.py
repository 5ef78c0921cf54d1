"""Eight runs as whole commands: this project, the article's loop, Ray Tune, Lightning and Hydra.

    python -m venv peers && peers/bin/pip install -r benchmarks/peers/requirements.txt
    python benchmarks/peers/peers.py --python peers/bin/python

takes ten minutes on two cores and writes benchmarks/results/peers.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from measure import Table, facts, in_turn, ratios, spread  # noqa: E402

from cifar_exp.data.settings import Synthetic  # noqa: E402
from cifar_exp.data.sources import load  # noqa: E402

NAMES = {
    "ours": "this project: `train.py -m`",
    "ray": "Ray Tune, one CPU a run",
    "lightning": "lightning-hydra-template's `-m`",
    "article": "the article's loop, one run after another",
}
_VERSIONS = """
import json
from importlib.metadata import version
names = {"ours": (), "article": ("torch", "torchvision"), "ray": ("ray",),
         "lightning": ("hydra-core", "lightning")}
print(json.dumps({name: version(name) for program in ONLY for name in names[program]}))
"""
_EXPLANATION = (
    "Wall time of whole commands that train {runs} runs of VGG16 at width {width:g} (seeds 0 to "
    "{last}) for {epochs} epochs of {train:,} images, each tested on {test:,} after each epoch: "
    "the same synthetic images, batch size 64, all other settings the default of each program. "
    "Measured in turn. Ray Tune trains the article's loop with one CPU for each run. The "
    "structure of lightning-hydra-template is written again in `lightning_template/`, with "
    "Hydra's basic launcher. This project includes figures, tables and a report."
)


def main() -> None:
    """Measure, print the table and write it."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        actions = _actions(given, Path(scratch))
        measured = in_turn(actions, given.repeats, warm_up=False)
    ours = measured["ours"]
    rows = [
        {
            "command": NAMES[name],
            "seconds": spread(seconds),
            "times as long as this project": spread(ratios(seconds, ours)),
            "n": str(len(seconds)),
        }
        for name, seconds in measured.items()
    ]
    sizes = {key: getattr(given, key) for key in ("runs", "width", "epochs", "train", "test")}
    explanation = _EXPLANATION.format(last=given.runs - 1, **sizes)
    table = Table("Eight runs at once: whole commands", explanation, rows, [])
    known = facts(torch.device("cpu")) | {"load average at the start": given.load}
    versions = json.loads(_output(given.python, "-c", _VERSIONS.replace("ONLY", str(given.only))))
    known["versions of the others"] = ", ".join(f"{name} {text}" for name, text in versions.items())
    lines = ["# Other programs", "", *(f"- {name}: {text}" for name, text in known.items()), ""]
    text = "\n".join([*lines, table.as_markdown()])
    print(text)
    name = "peers-quick.md" if given.quick else "peers.md"
    (given.results / name).write_text(text, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable, help="Python that has the others")
    parser.add_argument("--repeats", type=int, default=2, help="measurements of each command")
    parser.add_argument(
        "--only", nargs="+", choices=[name for name in NAMES if name != "ours"], metavar="NAME"
    )
    parser.add_argument("--quick", action="store_true", help="a test: the numbers are meaningless")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results")
    parser.set_defaults(runs=8, width=1 / 8, epochs=3, train=4000, test=1000)
    given = parser.parse_args()
    if given.quick:
        small = {"runs": 2, "width": 1 / 16, "epochs": 1, "train": 128, "test": 64, "repeats": 1}
        vars(given).update(small)
    given.only = [name for name in NAMES if name == "ours" or name in (given.only or NAMES)]
    given.load = f"{os.getloadavg()[0]:.1f}"
    return given


def _actions(given: argparse.Namespace, scratch: Path) -> dict[str, Callable[[], float]]:
    """Return a function for each command, which runs it and returns its seconds."""
    images = scratch / "images.npz"
    dataset = load(Synthetic(train_size=given.train, test_size=given.test), scratch)
    splits = {"train": dataset.train, "test": dataset.test}
    arrays = {f"{name}_images": split.images.numpy() for name, split in splits.items()}
    arrays |= {f"{name}_labels": split.labels.numpy() for name, split in splits.items()}
    np.savez(images, **arrays)
    seeds = f"seed=range({given.runs})"
    ours = ["-m", "data=synthetic", f"data.train_size={given.train}", "data.batch_size=64"]
    ours += [f"data.test_size={given.test}", f"model.width={given.width}"]
    ours += [f"epochs={given.epochs}", seeds]
    template = ["-m", f"data.file={images}", f"model.width={given.width}"]
    template += [f"trainer.max_epochs={given.epochs}", seeds]
    loop = [str(images), str(given.runs), str(given.epochs), str(given.width)]
    commands = {
        "ours": (sys.executable, HERE.parents[1] / "train.py", ours),
        "ray": (given.python, HERE / "ray_tune.py", loop),
        "lightning": (given.python, HERE / "lightning_template" / "train.py", template),
        "article": (given.python, HERE / "article.py", loop),
    }
    return {
        name: partial(_seconds, scratch, str(python), str(file), *arguments)
        for name, (python, file, arguments) in commands.items()
        if name in given.only
    }


def _seconds(scratch: Path, *command: str) -> float:
    """Run a command in a new folder and return its wall time."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        _output(*command, folder=folder)
    seconds = time.perf_counter() - started
    print(f"{seconds:.1f} s: {' '.join(command[1:])}", flush=True)
    return seconds


def _output(*command: str, folder: str | None = None) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()

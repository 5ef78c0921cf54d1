"""Folders of runs and sweeps that are written without training, and damage to them."""

import json
import os
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import run_id
from cifar_exp.config.load import to_yaml
from cifar_exp.config.schema import Paths, RunConfig, Training
from cifar_exp.reports.records import sweep_id
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.trust import file_sums
from cifar_exp.training.progress import EpochMetrics


def make_run(results: Path, sums: bool = True, **settings: Any) -> RunFolder:
    """Write the folder of a complete run. Args: sums: whether to save checksums."""
    settings |= {"training": Training(epochs=2), "paths": Paths(results=str(results))}
    config = RunConfig(**settings)
    folder = RunFolder.of(config)
    folder.claim(config)
    losses = {"train_loss": 1.0, "test_loss": 1.0, "train_accuracy": 0.5}
    folder.write_metrics(
        [losses | {"epoch": n, "test_accuracy": a} for n, a in ((1, 0.6), (2, 0.5))]
    )
    (folder.path / "model.json").write_text("{}")
    (folder.path / "model.safetensors").write_bytes(b"weights")
    state = {"status": "complete", "run_id": run_id(config)}
    folder.write_state(state | ({"sha256": file_sums(folder.path)} if sums else {}))
    return folder


def an_epoch(number: int, accuracy: float = 0.5) -> EpochMetrics:
    """Return the metrics of an epoch."""
    values = {"train_loss": 1.0, "train_accuracy": 0.4, "test_loss": 1.0}
    values |= {"test_accuracy": accuracy, "lr": 0.1, "train_seconds": 1.0, "test_seconds": 1.0}
    return EpochMetrics(number, values | {"images_per_second": 10.0, "peak_memory_bytes": 1})


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def damage(folder: RunFolder, kind: str) -> None:
    match kind:
        case "settings edited":
            edit(folder.config_file, "lr: 0.001", "lr: 0.1")
        case "settings cut off":
            text = folder.config_file.read_text()
            folder.config_file.write_text(text[: text.index("model:")])
        case "another run's settings":
            folder.config_file.write_text(to_yaml(RunConfig(seed=7)))
        case "another run's folder":
            other = make_run(folder.path.parents[2] / "other", seed=7).path
            for file in other.iterdir():
                os.replace(file, folder.path / file.name)
        case "a number in metrics.jsonl":
            edit(folder.metrics_file, '"train_loss": 1.0', '"train_loss": 0.1')


def make_sweep(results: Path, folders: list[RunFolder]) -> Path:
    """Write the folder of a sweep with these runs."""
    ids = [folder.path.name.rpartition("-")[2] for folder in folders]
    sweep = results / f"lr-{sweep_id(ids)}"
    sweep.mkdir()
    runs = [
        {"run_id": run, "folder": folder.path.name}
        for run, folder in zip(ids, folders, strict=True)
    ]
    (sweep / "sweep.json").write_text(json.dumps({"command": "train.py -m", "runs": runs}))
    return sweep

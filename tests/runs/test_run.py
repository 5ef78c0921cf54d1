"""One run through the command line: its files, and when it is skipped or repeated."""

import json

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import TINY, CommandLine, event_folder, read_rows, read_state


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory, command_line) -> CommandLine:
    train = command_line(tmp_path_factory.mktemp("uninterrupted"))
    train.output = train(*LONG)
    return train


# With dropout and crops, so that every random stream is used.
LONG = (*TINY, "epochs=4", "data.train_size=640", "dropout=0.5", "data.augment=crop_flip")


def test_a_run_writes_its_files(uninterrupted: CommandLine) -> None:
    run = uninterrupted.only_run
    names = {path.name for path in run.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "train.log",
        "curves.png",
        "predictions.png",
        "confusion.png",
        "model.safetensors",
        "model.json",
        "checkpoints",  # the last one, from which a longer run can continue
    }
    for figure in ("curves.png", "predictions.png", "confusion.png"):
        with Image.open(run / figure) as image:
            assert min(image.size) > 300  # pixels
    state = read_state(run)
    assert state["status"] == "complete"
    compute = state["compute"]
    assert (compute["device"], compute["threads"]) == ("cpu", 1)
    assert compute["precision"] in ("fp32", "bf16")  # whichever is faster on this machine
    assert run.name.endswith(state["run_id"])
    assert json.loads((run / "model.json").read_text())["architecture"]["name"] == "vgg11"
    assert "complete: test accuracy" in uninterrupted.output
    assert run.name in uninterrupted.output
    assert f"cpu, {compute['precision']}, 1 thread" in uninterrupted.output


def test_metrics_jsonl_has_a_line_for_each_epoch(uninterrupted: CommandLine) -> None:
    rows = read_rows(uninterrupted.only_run)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert " ".join(rows[0]) == (
        "epoch train_loss train_accuracy test_loss test_accuracy lr train_seconds test_seconds "
        "images_per_second peak_memory_bytes"
    )
    for row in rows:
        assert 0 <= row["train_accuracy"] <= 1
        assert row["images_per_second"] == pytest.approx(640 / row["train_seconds"])
        assert row["peak_memory_bytes"] > 50e6  # PyTorch alone uses more


def test_tensorboard_has_the_values_of_metrics_jsonl(uninterrupted: CommandLine) -> None:
    rows = read_rows(uninterrupted.only_run)
    events = EventAccumulator(
        str(event_folder(uninterrupted.folder / "logs", uninterrupted.only_run))
    )
    events.Reload()
    for tag, field in {
        "loss/train": "train_loss",
        "accuracy/test": "test_accuracy",
        "lr": "lr",
    }.items():
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == [1, 2, 3, 4]
        assert [scalar.value for scalar in scalars] == pytest.approx([row[field] for row in rows])


def test_a_complete_run_is_trained_again_only_with_rerun(train: CommandLine) -> None:
    train(*TINY)
    first = read_rows(train.only_run)
    assert "finished before, not repeated" in train(*TINY)
    assert read_rows(train.only_run) == first
    train(*TINY, "rerun=true")
    assert read_rows(train.only_run) != first  # the times differ
    assert read_rows(train.only_run / ".replaced") == first

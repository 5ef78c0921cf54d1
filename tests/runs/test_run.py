"""One run through the command line: what it writes, skips, repeats and resumes."""

import json

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import TINY, CommandLine, event_folder, read_rows, read_state


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory, command_line) -> CommandLine:
    train = command_line(tmp_path_factory.mktemp("uninterrupted"))
    train.said = train(*LONG)
    return train


# Long enough to be hit in any epoch; dropout and crops so that every random stream takes part.
LONG = (*TINY, "epochs=4", "data.train_size=640", "dropout=0.5", "data.augment=crop_flip")


def test_a_run_leaves_all_that_one_looks_for(uninterrupted: CommandLine) -> None:
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
        "checkpoints",  # the last one, which a longer run would continue
    }
    for picture in ("curves.png", "predictions.png", "confusion.png"):
        with Image.open(run / picture) as image:
            assert min(image.size) > 300  # pixels
    state = read_state(run)
    assert state["status"] == "complete"
    compute = state["compute"]
    assert (compute["device"], compute["threads"]) == ("cpu", 1)
    assert compute["precision"] in ("fp32", "bf16")  # whichever is faster here
    assert run.name.endswith(state["run_id"])
    assert json.loads((run / "model.json").read_text())["architecture"]["name"] == "vgg11"
    assert "complete: test accuracy" in uninterrupted.said
    assert run.name in uninterrupted.said
    assert f"cpu, {compute['precision']}, 1 thread" in uninterrupted.said


def test_every_epoch_is_a_line_of_metrics(uninterrupted: CommandLine) -> None:
    rows = read_rows(uninterrupted.only_run)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert " ".join(rows[0]) == (
        "epoch train_loss train_accuracy test_loss test_accuracy lr train_seconds test_seconds "
        "images_per_second peak_memory_bytes"
    )
    for row in rows:
        assert 0 <= row["train_accuracy"] <= 1
        assert row["images_per_second"] == pytest.approx(640 / row["train_seconds"])
        assert row["peak_memory_bytes"] > 50e6  # PyTorch alone takes more


def test_tensorboard_shows_what_metrics_jsonl_holds(uninterrupted: CommandLine) -> None:
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


def test_a_complete_run_is_not_trained_again_unless_asked_to(train: CommandLine) -> None:
    train(*TINY)
    first = read_rows(train.only_run)
    said = train(*TINY)
    assert "finished before, not repeated" in said
    assert read_rows(train.only_run) == first
    train(*TINY, "rerun=true")
    assert read_rows(train.only_run) != first  # other times
    assert read_rows(train.only_run / ".replaced") == first

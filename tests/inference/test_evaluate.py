"""Evaluations of trained networks."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from cifar_exp.__main__ import main
from cifar_exp.config.schema import Training
from cifar_exp.data.settings import ImageFolder, Synthetic
from cifar_exp.data.synthetic import load as shapes
from cifar_exp.errors import UserError
from cifar_exp.inference.calibration import calibration, expected_calibration_error
from cifar_exp.inference.evaluate import Evaluation
from cifar_exp.inference.load import load_run
from cifar_exp.inference.test_data import labelled_images
from tests.conftest import TINY, CommandLine, read_rows
from tests.inference.conftest import Trained
from tests.runs.test_runner import config, finish


def evaluated(run: Path, name: str = "test") -> dict:
    return json.loads((run / "evaluation" / name / "evaluation.json").read_text())


def test_an_evaluation_has_the_results_of_the_last_epoch(trained: Trained) -> None:
    output = trained.cifar_exp("evaluate", "epochs=3")
    assert "The results equal those of the run after epoch 3." in output
    last, found = read_rows(trained.run)[-1], evaluated(trained.run)
    assert found["images"] == 60
    assert found["accuracy"] == pytest.approx(last["test_accuracy"])
    assert found["loss"] == pytest.approx(last["test_loss"], rel=1e-5)  # float32
    files = {file.name for file in (trained.run / "evaluation" / "test").iterdir()}
    figures = {"confusion.png", "reliability.png", "mistakes.png"}
    assert files == {"evaluation.json", "evaluation.txt", *figures}
    assert (trained.run / "evaluation" / "test" / "evaluation.txt").read_text() in output


@pytest.mark.integration
def test_a_run_in_bf16_is_evaluated_in_bf16(train: CommandLine) -> None:
    train(*TINY, "epochs=1", "precision=bf16")
    train.cifar_exp("evaluate", str(train.only_run))
    last, found = read_rows(train.only_run)[-1], evaluated(train.only_run)
    assert "bf16" in found["compute"]
    assert found["accuracy"] == last["test_accuracy"]
    assert found["loss"] == pytest.approx(last["test_loss"], rel=1e-5)


def test_evaluations_on_other_data_have_another_folder(trained: Trained) -> None:
    output = trained.cifar_exp("evaluate", "epochs=3", "data.limit_test=20", "data.test_flip=false")
    assert "results equal" not in output
    found = evaluated(trained.run, "data.limit_test=20,data.test_flip=false")
    assert found["images"] == 20
    assert found["data"]["test_flip"] is False
    assert not (trained.run / "evaluation" / "test").exists()


def write_images(root: Path, classes: list[str]) -> None:
    """Write the test images of the run as the files of an image folder."""
    test = shapes(160, 80).test
    for number, (image, label) in enumerate(zip(test.images, test.labels, strict=True)):
        for split in ("train", "test"):
            folder = root / split / classes[int(label)]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.numpy()).save(folder / f"{number}.png")


@pytest.mark.integration
def test_the_same_images_in_a_folder_give_the_same_results(trained: Trained) -> None:
    # the classes of a folder are sorted by name
    write_images(trained.folder / "photos", trained.read_json("model.json")["classes"])
    trained.cifar_exp("evaluate", "epochs=3", "data=image_folder", "data.root=photos", "--out", "a")
    trained.cifar_exp("evaluate", "epochs=3", "data.limit_test=null", "--out", "b")
    folder, generated = (
        json.loads((trained.folder / name / "evaluation.json").read_text()) for name in "ab"
    )
    assert folder["images"] == generated["images"] == 80
    assert folder["accuracy"] == generated["accuracy"]
    assert folder["confusion"] == generated["confusion"]
    mistake = folder["most_confident_mistakes"][0]
    assert (trained.folder / "photos" / mistake["file"]).is_file()
    assert mistake["file"] in (trained.folder / "a" / "evaluation.txt").read_text()
    assert {mistake["file"] for mistake in generated["most_confident_mistakes"]} == {None}


def test_images_of_other_classes_are_refused(trained: Trained) -> None:
    classes = [*trained.read_json("model.json")["classes"][:9], "tulip"]
    write_images(trained.folder / "photos", classes)
    for file in (trained.folder / "photos").glob("*/*/*.png"):
        file.write_bytes(b"no image")  # not decoded
    output = trained.cifar_exp(
        "evaluate", "epochs=3", "data=image_folder", "data.root=photos", status=1
    )
    assert "data.root=photos: expected the classes that the network was trained on; " in output
    assert "missing: flower; unknown: tulip" in output


def test_changed_images_are_reported(trained: Trained) -> None:
    trained.write_json("run.json", trained.read_json("run.json") | {"data_sha256": "0" * 64})
    output = trained.cifar_exp("evaluate", "epochs=3")
    assert "warning: data: the images have changed since the run was trained" in output


def test_images_are_not_called_changed_if_their_digest_was_not_stored(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    state = trained.read_json("run.json")
    del state["data_sha256"]  # rebuilt, or of an early version
    trained.write_json("run.json", state)
    run = load_run(trained.run)
    assert len(labelled_images(run, run.config)) == 60
    assert "the images have changed" not in caplog.text


def test_an_evaluation_that_differs_from_training_shows_both(trained: Trained) -> None:
    rows = read_rows(trained.run)
    rows[-1] |= {"test_accuracy": 0.9, "test_loss": 0.25}
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (trained.run / "metrics.jsonl").write_text(text)
    trained.delete_sums()
    output = trained.cifar_exp("evaluate", "epochs=3")
    assert "in training, after epoch 3: accuracy 0.9000, loss 0.2500" in output


def test_results_of_classes_and_confident_mistakes() -> None:
    probabilities = np.array(
        [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.4, 0.5, 0.1], [0.6, 0.3, 0.1]]  # c is never predicted
    )
    evaluation = Evaluation(("a", "b", "c"), np.array([0, 0, 1, 2]), probabilities, 1.0)
    assert evaluation.accuracy == 0.5
    low, high = evaluation.interval
    assert (low, high) == (pytest.approx(0.150, abs=5e-4), pytest.approx(0.850, abs=5e-4))
    assert evaluation.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert evaluation.balance == {"largest_class_share": 0.5, "balanced_accuracy": 0.5}
    a, b, c = evaluation.by_class
    assert (a.images, a.precision, a.recall, a.f1, a.taken_for) == (2, 0.5, 0.5, 0.5, "b")
    assert (b.precision, b.recall, b.f1, b.taken_for) == (0.5, 1.0, pytest.approx(2 / 3), None)
    assert (c.precision, c.recall, c.f1, c.taken_for) == (None, 0.0, 0.0, "a")
    assert [(m.image, m.predicted, m.probability) for m in evaluation.mistakes] == [
        (1, 1, 0.8),
        (3, 0, 0.6),
    ]


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    confidence = np.array([0.5, 0.51, 0.6, 1.0, 1.0])  # 0.5 is the upper bound of the first bin
    correct = np.array([True, True, False, True, False])
    bins = calibration(confidence, correct, count=2)
    assert [(b.low, b.high, b.images) for b in bins] == [(0, 0.5, 1), (0.5, 1, 4)]
    assert [b.accuracy for b in bins] == [1, 0.5]
    # gaps of 0.5 for one image and of 0.2775 for four
    assert expected_calibration_error(bins) == pytest.approx((0.5 + 4 * 0.2775) / 5)


def test_a_perfect_network_is_calibrated_and_makes_no_mistakes() -> None:
    evaluation = Evaluation(("a", "b"), np.array([0, 1]), np.eye(2), 0.0)
    assert evaluation.calibration_error == 0
    assert evaluation.mistakes == []


def test_files_are_not_written_through_symbolic_links(trained: Trained) -> None:
    mine = trained.folder / "mine"
    mine.mkdir()
    for name in ("evaluation", "predictions", "export"):
        (trained.run / name).symlink_to(mine)
    for command in (["evaluate"], ["predict", "--grid", "4"]):
        output = trained.cifar_exp(command[0], "epochs=3", *command[1:], status=1)
        assert "expected a folder, got a symbolic link" in output
    assert not list(mine.iterdir())
    (mine / "mistakes.png").write_text("mine")
    (mine / "notes.txt").write_text("mine")
    (mine / "evaluation.txt").symlink_to(mine / "notes.txt")
    trained.cifar_exp("evaluate", "epochs=3", "--out", "mine")  # an explicit folder may be a link
    assert not (mine / "evaluation.txt").is_symlink()
    assert (mine / "notes.txt").read_text() == "mine"


def test_control_characters_in_class_names_are_replaced(trained: Trained) -> None:
    trained.delete_sums()
    root = trained.folder / "photos"
    names = trained.read_json("model.json")["classes"]
    names[0] = "\x1b[2J"
    trained.write_json("model.json", trained.read_json("model.json") | {"classes": names})
    write_images(root, names)
    output = trained.cifar_exp("evaluate", "epochs=3", "data=image_folder", f"data.root={root}")
    (file,) = trained.run.glob("evaluation/*/evaluation.txt")
    for text in (output, file.read_text()):
        assert "\N{REPLACEMENT CHARACTER}[2J" in text
        assert "\x1b" not in text
    assert "\x1b" not in trained.cifar_exp("check-data", str(root), status=1)


def test_validation_images_are_never_called_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts: list[str] = []

    def record(figure: Figure, *arguments: object, **options: object) -> None:
        texts.extend(text.get_text() for text in figure.findobj(Text))
        save(figure, *arguments, **options)

    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", record)
    data = Synthetic(train_size=80, test_size=20, batch_size=16, val_fraction=0.5)
    run = finish(config(tmp_path, data=data, training=Training(epochs=1)))
    for words in (["evaluate", str(run)], ["predict", str(run), "--grid", "4"]):
        monkeypatch.setattr("sys.argv", ["cifar_exp", *words])
        assert main() == 0
    assert "most confident mistakes: validation image" in capsys.readouterr().out
    assert (run / "evaluation" / "validation" / "evaluation.json").is_file()
    titles = [text for text in texts if "images correct" in text]
    # predictions.png and confusion.png of training, confusion.png of evaluate, grid.png
    assert len(titles) == 4
    assert all("validation images correct" in title for title in titles)
    texts.clear()
    monkeypatch.setattr("sys.argv", ["cifar_exp", "evaluate", str(run), "data.val_fraction=0"])
    assert main() == 0
    assert "most confident mistakes: test image" in capsys.readouterr().out
    assert any("of 20 test images correct" in text for text in texts)


def test_the_folder_of_moved_images_can_be_given(trained: Trained) -> None:
    run = load_run(trained.run)
    moved = run.config.model_copy(update={"data": ImageFolder(root="a")})
    message = (
        "data.root=a: folder not found. If the images were moved, evaluate and export accept "
        "their new folder: data.root=NEW_FOLDER."
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        labelled_images(replace(run, config=moved), moved)
    mistyped = moved.model_copy(update={"data": ImageFolder(root="b")})
    with pytest.raises(UserError, match=r"b: folder not found\. Expected images in"):
        labelled_images(replace(run, config=moved), mistyped)

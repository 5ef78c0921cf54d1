"""Predictions for image files, and a grid of test images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_exp import load_run
from cifar_exp.inference.predict import predict
from cifar_exp.inference.saving import write_predictions
from tests.inference.conftest import Trained


def noise(seed: int = 0, size: tuple[int, int] = (70, 50)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*reversed(size), 3), np.uint8)
    return Image.fromarray(pixels)


def predictions(trained: Trained) -> dict[str, dict[str, float]]:
    content = json.loads((trained.run / "predictions" / "predictions.json").read_text())
    return {one["file"]: one["probabilities"] for one in content["predictions"]}


def test_images_of_any_format_and_size_are_predicted(trained: Trained) -> None:
    folder = trained.folder
    noise().convert("CMYK").save(folder / "cmyk.jpg")
    noise(size=(1, 1)).save(folder / "tiny.gif")
    noise().save(folder / "frames.gif", save_all=True, append_images=[noise(1)])
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(folder / "deep.png")
    names = ["cmyk.jpg", "tiny.gif", "frames.gif", "deep.png"]
    output = trained.cifar_exp("predict", "epochs=3", *names)
    predicted = predictions(trained)
    assert list(predicted) == names
    for name, probabilities in predicted.items():
        assert sum(probabilities.values()) == pytest.approx(1)
        best = max(probabilities, key=lambda label: probabilities[label])
        assert [line.split()[1] for line in output.splitlines() if line.startswith(name)] == [best]
    with Image.open(trained.run / "predictions" / "predictions.png") as sheet:
        assert min(sheet.size) > 300  # pixels


def test_an_image_is_rotated_according_to_exif(trained: Trained) -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # rotate by 90 degrees clockwise
    noise().save(trained.folder / "rotated.png", exif=exif)
    noise().transpose(Image.Transpose.ROTATE_270).save(trained.folder / "upright.png")
    trained.cifar_exp("predict", "epochs=3", "rotated.png", "upright.png")
    rotated, upright = predictions(trained).values()
    assert rotated == upright


def test_a_folder_means_all_its_images(trained: Trained) -> None:
    for name in ("cat/b.png", "cat/a.jpg", "dog/@eaDir/thumb.png", "dog/c.png", "dog/.d.png"):
        (trained.folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        noise().save(trained.folder / "photos" / name)
    (trained.folder / "photos" / "notes.txt").write_text("no image")
    (trained.folder / "empty").mkdir()
    trained.cifar_exp("predict", "epochs=3", "photos")
    names = ["cat/a.jpg", "cat/b.png", "dog/c.png"]
    assert list(predictions(trained)) == [f"photos/{name}" for name in names]
    output = trained.cifar_exp("predict", "epochs=3", "empty", status=1)
    assert output == "empty: expected a folder with images, found none\n"


def test_unreadable_files_are_named_and_the_others_predicted(trained: Trained) -> None:
    (trained.folder / "broken.png").write_bytes(b"no image")
    noise().save(trained.folder / "good.png")
    output = trained.cifar_exp(
        "predict", "epochs=3", "broken.png", "good.png", "nowhere.png", status=1
    )
    assert "broken.png: damaged, truncated or of an unknown format" in output
    assert "nowhere.png: No such file or directory" in output
    assert list(predictions(trained)) == ["good.png"]


def test_predict_needs_images_or_a_grid(trained: Trained) -> None:
    output = trained.cifar_exp("predict", "epochs=3", status=1)
    assert output == "predict: expected images, or --grid N for test images\n"


def test_file_and_class_names_may_contain_anything(trained: Trained) -> None:
    names = ["\x1b[2J.png", "$x^{$.png", "é" * 60 + ".png", "\udcff.png", "a\nb.png"]
    for name in names:
        noise().save(trained.folder / name)
    trained.delete_sums()
    model = trained.read_json("model.json")
    model["classes"][:2] = ["\x1b[2J\x9b2J", "$\\frac{"]
    trained.write_json("model.json", model)
    output = trained.cifar_exp("predict", "epochs=3", *names)
    assert "\x1b" not in output
    assert "\x9b" not in output
    assert "a\N{REPLACEMENT CHARACTER}b.png" in output
    assert len(predictions(trained)) == 5


def test_a_grid_of_test_images_is_written_to_the_given_folder(trained: Trained) -> None:
    output = trained.cifar_exp("predict", "epochs=3", "--grid", "25", "--out", "shown")
    assert output == "shown/grid.png\n"
    with Image.open(trained.folder / "shown" / "grid.png") as sheet:
        assert min(sheet.size) > 300  # pixels
    assert not (trained.run / "predictions").exists()


def test_the_python_api_predicts_images(trained: Trained, tmp_path: Path) -> None:
    file = str(tmp_path / "one.png")
    noise().save(file)
    (one,), unreadable = predict(load_run(trained.run), [file, "nowhere.png"])
    assert one.file == file
    assert one.pixels is not None
    assert one.pixels.shape == (32, 32, 3)
    assert one.best(1) == [int(one.probabilities.argmax())]
    assert unreadable == {"nowhere.png": "No such file or directory"}


def test_a_pattern_means_all_files_and_folders_that_match(trained: Trained) -> None:
    for name in ("cat/b.png", "cat/a.jpg", "dog/c.png", "[1].png"):
        (trained.folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        noise().save(trained.folder / "photos" / name)
    trained.cifar_exp("predict", "epochs=3", "photos/[cd]*", "photos/**/*.png", "photos/[1].png")
    names = ["cat/a.jpg", "cat/b.png", "dog/c.png", "[1].png"]
    assert list(predictions(trained)) == [f"photos/{name}" for name in names]
    output = trained.cifar_exp("predict", "epochs=3", "photos/*.gif", status=1)
    assert output == "photos/*.gif: no file matches the pattern. Check the path.\n"


def test_predictions_are_written_as_csv(trained: Trained) -> None:
    for number in range(3):
        noise(number).save(trained.folder / f"{number},.png")
    output = trained.cifar_exp("predict", "epochs=3", "*,.png", "--csv", "out/all.csv")
    assert output.splitlines()[-1] == "out/all.csv"
    with (trained.folder / "out" / "all.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, (name, probabilities) in zip(rows, predictions(trained).items(), strict=True):
        assert row["file"] == name
        assert float(row[f"probability of {row['class']}"]) == max(probabilities.values())


@pytest.mark.parametrize("name", ["victim.png", "victim.CSV.jpg", "victim"])
def test_predictions_are_not_written_over_an_image(trained: Trained, name: str) -> None:
    for file in ("a.png", name):
        noise().save(trained.folder / file, "png")
    before = (trained.folder / name).read_bytes()
    output = trained.cifar_exp("predict", "epochs=3", "a.png", "--csv", name, status=1)
    assert output == (
        f"--csv {name}: expected a file name that ends in .csv, .tsv, .txt. "
        "Write --csv predictions.csv.\n"
    )
    assert (trained.folder / name).read_bytes() == before
    assert not (trained.run / "predictions").exists()


def test_only_the_images_that_are_drawn_are_kept(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [str(trained.folder / f"{number}.png") for number in range(5)]
    for number, file in enumerate(files):
        noise(number).save(file)
    monkeypatch.setattr("cifar_exp.inference.predict.evaluation_batch_size", lambda _: 2)
    monkeypatch.setattr("cifar_exp.inference.predict.DRAWN", 3)  # ends within the second batch
    run = load_run(trained.run)
    found, _ = predict(run, files)
    assert [one.pixels is not None for one in found] == [True, True, True, False, False]
    text = write_predictions(trained.folder / "out", run, found)
    assert all(file in text for file in files)


def test_more_images_than_a_batch_are_predicted(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [str(trained.folder / f"{number}.png") for number in range(5)]
    for number, file in enumerate(files):
        noise(number).save(file)
    run = load_run(trained.run)
    at_once, _ = predict(run, files)
    monkeypatch.setattr("cifar_exp.inference.predict.evaluation_batch_size", lambda _: 2)
    in_batches, unreadable = predict(run, [*files, "nowhere.png"])
    assert [one.file for one in in_batches] == files
    assert list(unreadable) == ["nowhere.png"]
    for one, other in zip(in_batches, at_once, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-4)

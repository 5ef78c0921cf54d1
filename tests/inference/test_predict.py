"""Pictures of the user's own, and a grid of test images."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_exp import load_run
from cifar_exp.inference.predict import predict
from tests.inference.conftest import Trained


def picture(seed: int = 0, size: tuple[int, int] = (70, 50)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*reversed(size), 3), np.uint8)
    return Image.fromarray(pixels)


def predictions(trained: Trained) -> dict[str, dict[str, float]]:
    content = json.loads((trained.run / "predictions" / "predictions.json").read_text())
    return {one["file"]: one["probabilities"] for one in content["predictions"]}


def test_pictures_of_any_format_and_size_get_probabilities(trained: Trained) -> None:
    folder = trained.folder
    picture().convert("CMYK").save(folder / "cmyk.jpg")
    picture(size=(1, 1)).save(folder / "tiny.gif")
    picture().save(folder / "frames.gif", save_all=True, append_images=[picture(1)])
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(folder / "deep.png")
    names = ["cmyk.jpg", "tiny.gif", "frames.gif", "deep.png"]
    said = trained.cifar_exp("predict", "epochs=3", *names)
    told = predictions(trained)
    assert list(told) == names
    for name, probabilities in told.items():
        assert sum(probabilities.values()) == pytest.approx(1)
        best = max(probabilities, key=lambda label: probabilities[label])
        assert [line.split()[1] for line in said.splitlines() if line.startswith(name)] == [best]
    with Image.open(trained.run / "predictions" / "predictions.png") as sheet:
        assert min(sheet.size) > 300  # pixels


def test_a_picture_is_turned_upright_as_exif_says(trained: Trained) -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by 90 degrees, clockwise
    picture().save(trained.folder / "lying.png", exif=exif)
    picture().transpose(Image.Transpose.ROTATE_270).save(trained.folder / "upright.png")
    trained.cifar_exp("predict", "epochs=3", "lying.png", "upright.png")
    lying, upright = predictions(trained).values()
    assert lying == upright


def test_a_folder_stands_for_all_its_images(trained: Trained) -> None:
    for name in ("cat/b.png", "cat/a.jpg", "dog/@eaDir/thumb.png", "dog/c.png", "dog/.d.png"):
        (trained.folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(trained.folder / "photos" / name)
    (trained.folder / "photos" / "notes.txt").write_text("no picture")
    (trained.folder / "empty").mkdir()
    trained.cifar_exp("predict", "epochs=3", "photos")
    names = ["cat/a.jpg", "cat/b.png", "dog/c.png"]
    assert list(predictions(trained)) == [f"photos/{name}" for name in names]
    said = trained.cifar_exp("predict", "epochs=3", "empty", status=1)
    assert said == "empty: expected a folder with images, found none\n"


def test_files_that_cannot_be_read_are_told_and_the_others_predicted(trained: Trained) -> None:
    (trained.folder / "broken.png").write_bytes(b"no picture")
    picture().save(trained.folder / "good.png")
    said = trained.cifar_exp(
        "predict", "epochs=3", "broken.png", "good.png", "nowhere.png", status=1
    )
    assert "broken.png: it is cut off, damaged or of an unknown format" in said
    assert "nowhere.png: No such file or directory" in said
    assert list(predictions(trained)) == ["good.png"]


def test_without_a_picture_there_is_nothing_to_predict(trained: Trained) -> None:
    said = trained.cifar_exp("predict", "epochs=3", status=1)
    assert said == "predict: expected images, or --grid N for test images\n"


def test_names_do_not_command_the_terminal_and_may_hold_anything(trained: Trained) -> None:
    names = ["\x1b[2J.png", "$x^{$.png", "é" * 60 + ".png", "\udcff.png"]
    for name in names:
        picture().save(trained.folder / name)
    trained.forget_sums()
    model = trained.read_json("model.json")
    model["classes"][:2] = ["\x1b[2J\x9b2J", "$\\frac{"]
    trained.write_json("model.json", model)
    said = trained.cifar_exp("predict", "epochs=3", *names)
    assert "\x1b" not in said
    assert "\x9b" not in said
    assert len(predictions(trained)) == 4


def test_a_grid_shows_test_images_where_one_says(trained: Trained) -> None:
    said = trained.cifar_exp("predict", "epochs=3", "--grid", "25", "--out", "shown")
    assert said == "shown/grid.png\n"
    with Image.open(trained.folder / "shown" / "grid.png") as sheet:
        assert min(sheet.size) > 300  # pixels
    assert not (trained.run / "predictions").exists()


def test_the_library_predicts_likewise(trained: Trained, tmp_path: Path) -> None:
    file = str(tmp_path / "one.png")
    picture().save(file)
    (one,), unreadable = predict(load_run(trained.run), [file, "nowhere.png"])
    assert (one.file, one.pixels.shape) == (file, (32, 32, 3))
    assert one.best(1) == [int(one.probabilities.argmax())]
    assert unreadable == {"nowhere.png": "No such file or directory"}

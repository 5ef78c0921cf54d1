"""Images of the user's own: what a function may return, and what is told of the rest."""

from typing import Any

import numpy as np
import pytest
import torch

from cifar_exp.data.settings import CustomData
from cifar_exp.data.sources import check, load
from cifar_exp.errors import UserError

TRUSTED = {"tests.data.test_custom.returned"}
RGB = np.zeros((6, 8, 8, 3), np.uint8)
LABELS = [0, 1, 2, 0, 1, 2]
NAMES = ["a", "b", "c"]

_returned: Any = None
_calls = 0


def returned(**_settings: Any) -> Any:
    """What `data._target_` names in this file."""
    global _calls
    _calls += 1
    if isinstance(_returned, Exception):
        raise _returned
    return _returned


def own(content: Any, number: int = 0, **settings: Any) -> CustomData:
    global _returned
    _returned = content
    # a number of its own, since a process keeps the last data set it was asked for
    return CustomData.model_validate(
        {"_target_": "tests.data.test_custom.returned", "number": number, **settings}
    )


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, list])
def test_arrays_tensors_and_lists_are_taken(kind: Any, tmp_path) -> None:
    content = (RGB + 7, kind(LABELS)), (torch.as_tensor(RGB), kind(LABELS)), NAMES
    dataset = load(own(content, hash(kind)), tmp_path, TRUSTED)
    assert dataset.classes == ("a", "b", "c")
    assert dataset.train.images.dtype == torch.uint8
    assert dataset.train.images.unique().tolist() == [7]
    assert dataset.train.labels.tolist() == LABELS
    assert len(dataset.digest()) == 64


def test_the_limits_and_the_batch_size_hold_for_them_too(tmp_path) -> None:
    content = (RGB, LABELS), (RGB, LABELS), NAMES
    limited = own(content, 1, limit_train=3, batch_size=3)
    assert len(load(limited, tmp_path, TRUSTED).train) == 3
    assert check(limited, TRUSTED)[:2] == (3, 8)  # classes, pixels
    with pytest.raises(UserError, match=r"data\.batch_size: expected at most the 6 training"):
        check(own(content, 1, batch_size=7), TRUSTED)


def test_the_function_is_called_once_for_the_check_and_the_run(tmp_path) -> None:
    config = own(((RGB, LABELS), (RGB, LABELS), NAMES), 2, batch_size=3)
    before = _calls
    check(config, TRUSTED)
    load(config.model_copy(update={"batch_size": 2}), tmp_path, TRUSTED)
    assert _calls == before + 1


def test_a_function_that_nobody_has_allowed_is_not_called(tmp_path) -> None:
    config = own(((RGB, LABELS), (RGB, LABELS), NAMES), 3)
    before = _calls
    for use in (lambda: load(config, tmp_path), lambda: check(config)):
        with pytest.raises(UserError, match=r"data\._target_: .* can run any code"):
            use()
    assert _calls == before


GOOD = (RGB, LABELS)
MISTAKES = {
    "no three": ([GOOD], "a list: expected (train, test, class names)"),
    "no pair": ((RGB, GOOD, NAMES), "a ndarray as training images: expected (images, labels)"),
    "floats": (
        ((RGB / 255, LABELS), GOOD, NAMES),
        "training images as float64 of shape (6, 8, 8, 3): expected uint8 of shape (N, H, W, 3)",
    ),
    "channels first": (
        (GOOD, (RGB.transpose(0, 3, 1, 2), LABELS), NAMES),
        "test images as uint8 of shape (6, 3, 8, 8): expected uint8 of shape (N, H, W, 3)",
    ),
    "no squares": (
        ((RGB[:, :4], LABELS), GOOD, NAMES),
        "training images of 4x8 pixels: expected squares",
    ),
    "two sizes": (
        (GOOD, (RGB[:, :4, :4], LABELS), NAMES),
        "training images of 8 pixels a side and test images of 4: expected the same size",
    ),
    "no images": (
        ((RGB[:0], []), GOOD, NAMES),
        "0 training images and labels of shape (0,): expected a label an image",
    ),
    "a label short": (
        ((RGB, LABELS[1:]), GOOD, NAMES),
        "6 training images and labels of shape (5,): expected a label an image",
    ),
    "labels from 1": (
        ((RGB, [1, 2, 3, 1, 2, 3]), GOOD, NAMES),
        "labels of the training images from 1 to 3: expected 0 to 2, the places of the class names",
    ),
    "labels as fractions": (
        (GOOD, (RGB, np.zeros(6)), NAMES),
        "labels of the test images as torch.float64: expected whole numbers",
    ),
    "labels as words": (
        ((RGB, ["a"] * 6), GOOD, NAMES),
        "a list with the training images: expected an array or a tensor",
    ),
    "a name twice": (
        (GOOD, GOOD, ["a", "b", "a"]),
        "the class names ['a', 'b', 'a']: expected each once",
    ),
    "one class": ((GOOD, GOOD, ["a"]), "the class names ['a']: expected a list of two texts"),
    "numbers as names": ((GOOD, GOOD, 3), "the class names 3: expected a list of two texts"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_no_data_set_is_told(mistake: str) -> None:
    content, told = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        check(own(content, hash(mistake)), TRUSTED)
    assert str(error.value).startswith(f"data: tests.data.test_custom.returned returns {told}")


def test_an_error_in_the_function_is_told_with_its_line() -> None:
    with pytest.raises(UserError) as error:
        check(own(FileNotFoundError(2, "No such file or directory", "x.npz"), 4), TRUSTED)
    assert str(error.value).startswith(
        "data: tests.data.test_custom.returned raises FileNotFoundError: [Errno 2] No such file or "
        f"directory: 'x.npz' ({__file__}, line "
    )

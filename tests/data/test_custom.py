"""Images from a custom function, and messages about invalid ones."""

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
    """Return the data set of the test; the value of `data._target_` in this file."""
    global _calls
    _calls += 1
    if isinstance(_returned, Exception):
        raise _returned
    return _returned


def custom(content: Any, number: int = 0, **settings: Any) -> CustomData:
    global _returned
    _returned = content
    # a different number for each test, since the last data set is cached
    return CustomData.model_validate(
        {"_target_": "tests.data.test_custom.returned", "number": number, **settings}
    )


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, list])
def test_arrays_tensors_and_lists_are_accepted(kind: Any, tmp_path) -> None:
    content = (RGB + 7, kind(LABELS)), (torch.as_tensor(RGB), kind(LABELS)), NAMES
    dataset = load(custom(content, hash(kind)), tmp_path, TRUSTED)
    assert dataset.classes == ("a", "b", "c")
    assert dataset.train.images.dtype == torch.uint8
    assert dataset.train.images.unique().tolist() == [7]
    assert dataset.train.labels.tolist() == LABELS
    assert len(dataset.digest()) == 64


def test_limits_and_batch_size_apply(tmp_path) -> None:
    content = (RGB, LABELS), (RGB, LABELS), NAMES
    limited = custom(content, 1, limit_train=3, batch_size=3)
    assert len(load(limited, tmp_path, TRUSTED).train) == 3
    assert check(limited, TRUSTED) == (None, 3, 3, 8)
    with pytest.raises(UserError, match=r"data\.batch_size: expected at most the 6 training"):
        check(custom(content, 1, batch_size=7), TRUSTED)


def test_the_function_is_called_once_for_the_check_and_the_run(tmp_path) -> None:
    config = custom(((RGB, LABELS), (RGB, LABELS), NAMES), 2, batch_size=3)
    before = _calls
    check(config, TRUSTED)
    load(config.model_copy(update={"batch_size": 2}), tmp_path, TRUSTED)
    assert _calls == before + 1


def test_a_function_that_is_not_trusted_is_not_called(tmp_path) -> None:
    config = custom(((RGB, LABELS), (RGB, LABELS), NAMES), 3)
    before = _calls
    for use in (lambda: load(config, tmp_path), lambda: check(config)):
        with pytest.raises(UserError, match=r"data\._target_: .* can run any code"):
            use()
    assert _calls == before


GOOD = (RGB, LABELS)
MISTAKES = {
    "one value": ([GOOD], "a list, expected (train, test, class names)"),
    "images without labels": (
        (RGB, GOOD, NAMES),
        "a ndarray as training images, expected (images, labels)",
    ),
    "floats": (
        ((RGB / 255, LABELS), GOOD, NAMES),
        "training images as float64 of shape (6, 8, 8, 3), expected uint8 of shape (N, H, W, 3)",
    ),
    "channels first": (
        (GOOD, (RGB.transpose(0, 3, 1, 2), LABELS), NAMES),
        "test images as uint8 of shape (6, 3, 8, 8), expected uint8 of shape (N, H, W, 3)",
    ),
    "rectangles": (
        ((RGB[:, :4], LABELS), GOOD, NAMES),
        "training images of 4x8 pixels, expected square images",
    ),
    "two sizes": (
        (GOOD, (RGB[:, :4, :4], LABELS), NAMES),
        "training images of 8x8 pixels and test images of 4x4, expected the same size",
    ),
    "no images": (
        ((RGB[:0], []), GOOD, NAMES),
        "0 training images and labels of shape (0,), expected one label for each image",
    ),
    "a missing label": (
        ((RGB, LABELS[1:]), GOOD, NAMES),
        "6 training images and labels of shape (5,), expected one label for each image",
    ),
    "labels from 1": (
        ((RGB, [1, 2, 3, 1, 2, 3]), GOOD, NAMES),
        "labels of the training images from 1 to 3, expected indices of the class names, 0 to 2",
    ),
    "labels as floats": (
        (GOOD, (RGB, np.zeros(6)), NAMES),
        "labels of the test images as torch.float64, expected integers",
    ),
    "labels as strings": (
        ((RGB, ["a"] * 6), GOOD, NAMES),
        "a list with the training images, expected an array or a tensor",
    ),
    "a duplicate name": (
        (GOOD, GOOD, ["a", "b", "a"]),
        "the class names ['a', 'b', 'a'], expected unique names",
    ),
    "one class": (
        (GOOD, GOOD, ["a"]),
        "the class names ['a'], expected a list of at least two strings",
    ),
    "a number as names": ((GOOD, GOOD, 3), "the class names 3, expected a list of at least"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_invalid_data_set_is_described(mistake: str) -> None:
    content, message = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        check(custom(content, hash(mistake)), TRUSTED)
    assert str(error.value).startswith(f"data: tests.data.test_custom.returned returns {message}")


def test_an_error_in_the_function_is_reported_with_its_line() -> None:
    with pytest.raises(UserError) as error:
        check(custom(FileNotFoundError(2, "No such file or directory", "x.npz"), 4), TRUSTED)
    assert str(error.value).startswith(
        "data: tests.data.test_custom.returned raises FileNotFoundError: [Errno 2] No such file or "
        f"directory: 'x.npz' ({__file__}, line "
    )

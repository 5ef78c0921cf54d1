"""Load images from a custom function."""

from collections.abc import Collection
from functools import lru_cache
from typing import Any

import torch

from cifar_exp.custom_code import call
from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.errors import UserError
from cifar_exp.sections import CustomCode


def load(config: CustomCode, trusted: Collection[str]) -> Dataset:
    """Call a custom function and check the data set that it returns.

    Args:
        config: name and arguments of the function.
        trusted: names that may be called.

    Returns:
        The data set, before the limits.

    Raises:
        UserError: the name is not trusted, the call fails, or it returns an invalid data set.
    """
    source = CustomCode.model_validate({"_target_": config.target, **config.settings})
    return _load(source, frozenset(trusted))


@lru_cache(maxsize=1)  # called for the check of a run and for its training
def _load(source: CustomCode, trusted: frozenset[str]) -> Dataset:
    # a random split is reproducible, also after other runs in this process
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        returned = call("data", source, trusted)
    try:
        return _dataset(returned)
    except ValueError as error:
        raise UserError(f"data: {source.target} returns {error}") from error


def _dataset(returned: Any) -> Dataset:
    if not isinstance(returned, tuple | list) or len(returned) != 3:
        kind = type(returned).__name__
        raise ValueError(f"a {kind}, expected (train, test, class names)")
    classes = _classes(returned[2])
    train = _split(returned[0], "training images", len(classes))
    test = _split(returned[1], "test images", len(classes))
    side, other = train.images.shape[1], test.images.shape[1]
    if side != other:
        raise ValueError(
            f"training images of {side}x{side} pixels and test images of {other}x{other}, "
            "expected the same size"
        )
    return Dataset(train, test, classes)


def _classes(names: Any) -> tuple[str, ...]:
    is_list = isinstance(names, tuple | list) and len(names) >= 2
    if not is_list or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the class names {names!r}, expected a list of at least two strings")
    if len(set(names)) < len(names):
        raise ValueError(f"the class names {names!r}, expected unique names")
    return tuple(map(str, names))


def _split(part: Any, name: str, classes: int) -> Split:
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise ValueError(f"a {type(part).__name__} as {name}, expected (images, labels)")
    images, labels = (_tensor(values, name) for values in part)
    found = f"{images.dtype} of shape {tuple(images.shape)}".removeprefix("torch.")
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[3] != 3:
        raise ValueError(f"{name} as {found}, expected uint8 of shape (N, H, W, 3)")
    count, height, width, _ = images.shape
    if height != width:
        raise ValueError(f"{name} of {height}x{width} pixels, expected square images")
    if not count or labels.shape != (count,):
        shape = tuple(labels.shape)
        raise ValueError(
            f"{count} {name} and labels of shape {shape}, expected one label for each image"
        )
    return Split(images.contiguous(), _class_indices(labels, name, classes).contiguous())


def _class_indices(labels: torch.Tensor, name: str, classes: int) -> torch.Tensor:
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels of the {name} as {labels.dtype}, expected integers")
    labels = labels.to(torch.int64)
    least, largest = int(labels.min()), int(labels.max())
    if least < 0 or largest >= classes:
        raise ValueError(
            f"labels of the {name} from {least} to {largest}, expected indices of the class names, "
            f"0 to {classes - 1}"
        )
    return labels


def _tensor(values: Any, name: str) -> torch.Tensor:
    try:
        return torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(values).__name__
        raise ValueError(f"a {kind} with the {name}, expected an array or a tensor") from error

"""Data overrides for a trained run: `data=image_folder data.root=photos`."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from pydantic import ValidationError

from cifar_exp.config.load import checked, format_errors
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.class_folders import TEST_FRACTION, ClassFolders
from cifar_exp.data.settings import ImageFolder
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path

# Settings that other data keep.
_KEPT = ("batch_size", "augment", "cutout", "test_flip", "normalize")
_EXPECTED = "expected data=OPTION or data.KEY=VALUE, such as data.limit_test=1000"
_QUOTES = "a value with special characters needs quotes: 'data.KEY=\"VALUE\"'"


def with_data(
    config: RunConfig, overrides: Sequence[str], defaults: Mapping[str, Any] | None = None
) -> RunConfig:
    """Apply data overrides from the command line to the settings of a run.

    No file of `conf/` is read, so only keys of the schema can be set. Another data set drops the
    limits on the number of images, and a folder that contains test images drops `test_fraction`.

    Args:
        config: settings of the run.
        overrides: from the command line, in any order.
        defaults: settings of an image folder that are not overridden.

    Raises:
        UserError: an override is unknown, out of range, or not about data.
    """
    parsed = [_parse(text) for text in overrides]
    options = [value for key, value in parsed if key == "data"]
    settings = {key.removeprefix("data."): value for key, value in parsed if key != "data"}
    content = config.model_dump(mode="json")
    data = content["data"]
    if options:
        data = {"name": options[-1]} | {key: data[key] for key in _KEPT}
        if options[-1] == "image_folder":
            data.update(defaults or {})
    if "root" in settings:
        data.pop("same_as", None)  # belongs to the old root
    content["data"] = data | settings
    if not content["data"].get("val_fraction"):  # test images must not select an epoch
        content["training"] |= {"keep": "last", "patience": None}
    try:
        changed = checked(content)
    except ValidationError as error:
        raise UserError(format_errors(error)) from error
    if "root" in settings and "test_fraction" not in settings:
        return _without_test_fraction(changed)
    return changed


def _without_test_fraction(config: RunConfig) -> RunConfig:
    """Reset `data.test_fraction` if the folder contains test images and would refuse the setting.

    Other folders keep it: if they are the moved images of the run, training images would be test
    images with a larger fraction.
    """
    data = config.data
    if not isinstance(data, ImageFolder) or data.test_fraction == TEST_FRACTION:
        return config
    if not ClassFolders(as_path(data.root)).has_splits:
        return config
    data = data.model_copy(update={"test_fraction": TEST_FRACTION})
    return config.model_copy(update={"data": data})


def _parse(text: str) -> tuple[str, Any]:
    try:
        override: Override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise UserError(f"{text}: {_EXPECTED}; {_QUOTES}") from error
    key = override.key_or_group
    is_data = key == "data" or (key.startswith("data.") and key.count(".") == 1)
    if override.type is not OverrideType.CHANGE or override.is_sweep_override() or not is_data:
        raise UserError(f"{text}: {_EXPECTED}")
    return key, override.value()

"""Data overrides for a trained run: `data=image_folder data.root=photos`."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from pydantic import ValidationError

from cifar_exp.config.load import checked, format_errors
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError

# Settings that other data keep.
_KEPT = ("batch_size", "augment", "cutout", "test_flip", "normalize")
_EXPECTED = "expected data=OPTION or data.KEY=VALUE, such as data.limit_test=1000"


def with_data(
    config: RunConfig, overrides: Sequence[str], defaults: Mapping[str, Any] | None = None
) -> RunConfig:
    """Apply data overrides from the command line to the settings of a run.

    No file of `conf/` is read, so only keys of the schema can be set. Another data set drops the
    limits on the number of images.

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
        return checked(content)
    except ValidationError as error:
        raise UserError(format_errors(error)) from error


def _parse(text: str) -> tuple[str, Any]:
    try:
        override: Override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise UserError(f"{text}: {_EXPECTED}") from error
    key = override.key_or_group
    is_data = key == "data" or (key.startswith("data.") and key.count(".") == 1)
    if override.type is not OverrideType.CHANGE or override.is_sweep_override() or not is_data:
        raise UserError(f"{text}: {_EXPECTED}")
    return key, override.value()

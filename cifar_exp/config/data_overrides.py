"""Other data for a run that has been trained: `data=image_folder data.root=photos`."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from pydantic import ValidationError

from cifar_exp.config.load import checked, in_lines
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError

# How a run trained and tests stays when the images are others.
_KEPT = ("batch_size", "augment", "cutout", "test_flip", "normalize")
_EXPECTED = "expected data=OPTION or data.KEY=VALUE, such as data.limit_test=1000"


def with_data(
    config: RunConfig, overrides: Sequence[str], defaults: Mapping[str, Any] | None = None
) -> RunConfig:
    """Change the data of a run's settings, typed as for `train.py`.

    Nothing is composed and no file is read, so only the keys of the schema can be set. The limits
    on the number of images belong to the old data, and go with it.

    Args:
        config: of the run.
        overrides: from the command line, in any order.
        defaults: settings of the new data where nothing is typed; those it has not are left out.

    Returns:
        The settings with the other data.

    Raises:
        UserError: an override is of something else, unknown, or out of range.
    """
    typed = [_parsed(text) for text in overrides]
    content = config.model_dump(mode="json")
    options = [value for key, value in typed if key == "data"]
    if options:
        kept = {key: content["data"][key] for key in _KEPT}
        content["data"] = {"name": options[-1]} | kept
        if options[-1] == "image_folder":
            content["data"] |= dict(defaults or {})
    if any(key == "data.root" for key, _ in typed):
        content["data"].pop("same_as", None)  # which was said of the old place
    content["data"] |= {key.partition(".")[2]: value for key, value in typed if key != "data"}
    try:
        return checked(content)
    except ValidationError as error:
        raise UserError(in_lines(error)) from error


def _parsed(text: str) -> tuple[str, Any]:
    try:
        override: Override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise UserError(f"{text}: {_EXPECTED}") from error
    key = override.key_or_group
    is_data = key == "data" or (key.startswith("data.") and key.count(".") == 1)
    if override.type is not OverrideType.CHANGE or override.is_sweep_override() or not is_data:
        raise UserError(f"{text}: {_EXPECTED}")
    return key, override.value()

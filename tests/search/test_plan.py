"""The initial settings of a search."""

from collections.abc import Sequence

import pytest

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.search_settings import SearchSettings
from cifar_exp.data.settings import Synthetic
from cifar_exp.errors import UserError
from cifar_exp.optimizers import Sgd
from cifar_exp.search.plan import make_plan
from cifar_exp.search.space import Choice

MOMENTUM = "optimizer.momentum=0.5"


def compose(overrides: Sequence[str]) -> RunConfig:
    data = Synthetic(val_fraction=0.1)
    if "optimizer=sgd" in overrides:
        return RunConfig(data=data, optimizer=Sgd(momentum=0.5))
    if MOMENTUM in overrides:
        raise UserError("optimizer.momentum: optimizer=adam does not have this setting")
    return RunConfig(data=data)


def test_a_shared_setting_may_require_an_option_of_the_space() -> None:
    space = {"optimizer": Choice(("sgd",))}
    plan = make_plan(SearchSettings.model_validate({}), space, [MOMENTUM], compose)
    assert plan.start.optimizer == Sgd(momentum=0.5)
    assert [example.optimizer for example in plan.examples] == [Sgd(momentum=0.5)]


def test_a_setting_that_no_option_has_is_refused() -> None:
    space = {"optimizer": Choice(("adam",))}
    with pytest.raises(UserError, match="does not have this setting"):
        make_plan(SearchSettings.model_validate({}), space, [MOMENTUM], compose)

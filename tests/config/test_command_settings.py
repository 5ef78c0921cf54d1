"""The settings `plan` and `budget` of a command."""

import pytest
from omegaconf import OmegaConf

from cifar_exp.config.command_settings import budget_seconds, is_plan
from cifar_exp.errors import UserError


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("2h", 7200), ("30m", 1800), ("90s", 90), (90, 90), ("1h30m", 5400), ("0.5h", 1800)],
)
def test_a_budget_is_a_time(typed: str | int, seconds: float) -> None:
    assert budget_seconds(OmegaConf.create({"budget": typed})) == seconds


@pytest.mark.parametrize("typed", ["soon", "0", "-1h", "1.2.3h", "2d", True])
def test_other_values_are_refused(typed: str | bool) -> None:
    with pytest.raises(UserError, match="budget: expected a time such as 2h"):
        budget_seconds(OmegaConf.create({"budget": typed}))


def test_without_a_budget_there_is_no_limit() -> None:
    assert budget_seconds(OmegaConf.create({"budget": None})) is None
    assert budget_seconds(OmegaConf.create({})) is None


def test_a_plan_is_true_or_false() -> None:
    assert is_plan(OmegaConf.create({"plan": True}))
    assert not is_plan(OmegaConf.create({}))
    with pytest.raises(UserError, match="plan: expected true or false, got maybe"):
        is_plan(OmegaConf.create({"plan": "maybe"}))

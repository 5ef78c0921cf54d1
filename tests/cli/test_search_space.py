"""The search space, as written in YAML and on the command line."""

import pytest
from hydra.core.config_loader import ConfigLoader

from cifar_exp.cli.search_space import read_space
from cifar_exp.errors import UserError
from cifar_exp.search.space import Choice, Domain, Interval


class Options:
    """Return the levels of `lr`, as Hydra's loader does."""

    def get_group_options(self, group: str, results_filter: object) -> list[str]:
        return ["high", "low"]


def read(*arguments: str) -> tuple[dict[str, Domain], list[str]]:
    loader: ConfigLoader = Options()  # type: ignore[assignment]
    return read_space(arguments, loader)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("a=interval(0,0.5)", Interval(0.0, 0.5)),
        ("a=tag(log, interval(1e-5, 1e-1))", Interval(1e-5, 0.1, log=True)),
        ("a=int(interval(1,10))", Interval(1, 10)),
        ("a=int(tag(log,interval(16,256)))", Interval(16, 256, log=True)),
        ("a=choice(adam,sgd)", Choice(("adam", "sgd"))),
        ("a=choice(16,32)", Choice((16, 32))),
        ("a=16,32,16", Choice((16, 32))),
        ("a='[1,2]','[3]'", Choice(("'[1,2]'", "'[3]'"))),
        ("a=[1,2],[3]", Choice(("[1,2]", "[3]"))),
        ("a=null,1000", Choice(("null", 1000))),
        # as in a sweep: without the end
        ("a=range(1,10)", Interval(1, 9, step=1)),
        ("a=range(0,1,step=0.25)", Interval(0, 0.75, step=0.25)),
        ("lr=glob(*)", Choice(("high", "low"))),
    ],
)
def test_hydras_syntax_is_parsed(text: str, domain: Domain) -> None:
    space, shared = read(text, "b=1")
    assert list(space.values()) == [domain]
    assert shared == ["b=1"]


def test_integers_and_fractions_are_distinguished() -> None:
    space, _ = read("a=interval(1,10)", "b=int(interval(1,10))", "c=range(1,10)")
    is_integer = [isinstance(d, Interval) and d.is_integer for d in space.values()]
    assert is_integer == [False, True, True]


def test_the_last_of_a_short_name_a_level_and_a_key_is_used() -> None:
    space, shared = read("lr=interval(0.1,1)", "optimizer.lr=tag(log,interval(0.001,1))")
    assert space == {"optimizer.lr": Interval(0.001, 1.0, log=True)}
    space, shared = read("lr=interval(0.1,1)", "lr=high")
    assert (space, shared) == ({}, ["lr=high"])
    space, shared = read("lr=0.1", "lr=choice(high,low)")
    assert (space, shared) == ({"lr": Choice(("high", "low"))}, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=interval(2,1)", "expected the lower number first"),
        ("a=tag(log,interval(0,1))", "expected numbers above 0"),
        ("a=interval(0,inf)", "expected two finite numbers"),
        ("a=tag(normal,interval(0,1))", "expected no tag other than log"),
        ("a=tag(log,choice(1,2))", "expected no tag other than log, and only on an interval"),
        ("a=range(1,10,0)", "expected an ascending range"),
        ("a=range(9,1)", "expected an ascending range"),
        ("lr=glob(none*)", "expected at least one option"),
    ],
)
def test_an_invalid_space_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        read(text)
    assert str(refused.value).startswith(f"{text}: {message}")

"""The space of a search, as it is written in YAML and on the command line."""

import pytest
from hydra.core.config_loader import ConfigLoader

from cifar_exp.cli.search_space import read_space
from cifar_exp.errors import UserError
from cifar_exp.search.space import Choice, Domain, Interval


class Options:
    """Knows the levels of `lr`, as Hydra's loader does."""

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
        # as in a sweep: without its end
        ("a=range(1,10)", Interval(1, 9, step=1)),
        ("a=range(0,1,step=0.25)", Interval(0, 0.75, step=0.25)),
        ("lr=glob(*)", Choice(("high", "low"))),
    ],
)
def test_the_known_syntax_is_understood(text: str, domain: Domain) -> None:
    space, shared = read(text, "b=1")
    assert list(space.values()) == [domain]
    assert shared == ["b=1"]


def test_whole_numbers_are_told_from_fractions() -> None:
    space, _ = read("a=interval(1,10)", "b=int(interval(1,10))", "c=range(1,10)")
    wholes = [isinstance(d, Interval) and d.is_integer for d in space.values()]
    assert wholes == [False, True, True]


def test_short_names_and_levels_set_the_same_and_the_later_wins() -> None:
    space, shared = read("lr=interval(0.1,1)", "optimizer.lr=tag(log,interval(0.001,1))")
    assert space == {"optimizer.lr": Interval(0.001, 1.0, log=True)}
    space, shared = read("lr=interval(0.1,1)", "lr=high")
    assert (space, shared) == ({}, ["lr=high"])
    space, shared = read("lr=0.1", "lr=choice(high,low)")
    assert (space, shared) == ({"lr": Choice(("high", "low"))}, [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a=interval(2,1)", "expected the lower number first"),
        ("a=tag(log,interval(0,1))", "expected the lower number first, and numbers above 0"),
        ("a=interval(0,inf)", "expected two numbers"),
        ("a=tag(normal,interval(0,1))", "expected no tag but log"),
        ("a=tag(log,choice(1,2))", "expected no tag but log, and that of an interval"),
        ("a=range(1,10,0)", "expected a range that ascends"),
        ("a=range(9,1)", "expected a range that ascends"),
        ("lr=glob(none*)", "expected something to choose from"),
    ],
)
def test_what_cannot_be_searched_is_refused(text: str, told: str) -> None:
    with pytest.raises(UserError) as refused:
        read(text)
    assert str(refused.value).startswith(f"{text}: {told}")

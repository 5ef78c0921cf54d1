"""Methods of Hydra that are replaced while a block runs."""

import pytest

from cifar_exp.cli.hydra_private import replaced


class Owner:
    def method(self) -> str:
        return "method"

    @staticmethod
    def static() -> str:
        return "static"


def test_replaced_methods_are_restored_and_added_ones_removed() -> None:
    before = dict(vars(Owner))
    new = {"method": lambda self: "new", "static": staticmethod(lambda: "new")}
    with replaced(Owner, added=lambda self: "new", **new):
        assert Owner().method() == Owner.static() == "new"
        assert hasattr(Owner, "added")
    assert dict(vars(Owner)) == before


def test_methods_are_restored_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), replaced(Owner, method=lambda self: "new"):
        raise ZeroDivisionError
    assert Owner().method() == "method"

"""Custom networks: how they are built, and messages for those that cannot be trained."""

import pytest
import torch

from cifar_exp.errors import UserError
from cifar_exp.models.build import build_model, check_model
from cifar_exp.models.settings import CustomModel, Model
from tests import nets


def custom(name: str, module: str = "tests.nets", **settings: object) -> CustomModel:
    return CustomModel.model_validate({"_target_": f"{module}.{name}", **settings})


def check(config: CustomModel | Model, image_size: int = 32) -> int:
    trusted = {config.target} if isinstance(config, CustomModel) else set()
    return check_model(config, 7, image_size, trusted)


def test_a_custom_network_receives_num_classes_and_its_settings() -> None:
    config = custom("Random", probability=0.25)
    network = build_model(config, 7, seed=0, trusted={"tests.nets.Random"})
    assert isinstance(network, nets.Random)
    assert network.head.out_features == 7
    assert network.dropout.p == 0.25


def test_a_network_that_rejects_single_images_is_refused_if_the_last_batch_has_one() -> None:
    config = custom("NormedVector")
    check(config)
    with pytest.raises(
        UserError, match=r"raises ValueError: Expected more than 1 value .* epoch; "
    ):
        check_model(config, 7, 32, {config.target}, single=True)
    check_model(custom("Random"), 7, 32, {"tests.nets.Random"}, single=True)


def test_equal_seeds_give_equal_weights() -> None:
    trusted = {"tests.nets.Random"}
    first, same, other = (build_model(custom("Random"), 7, seed, trusted) for seed in (5, 5, 6))
    assert torch.equal(first.head.weight, same.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("trusted", [(), ("tests.nets.Tied", "tests.nets", "Random")])
def test_code_that_is_not_trusted_is_not_called(trusted: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"^model\._target_: tests\.nets\.Random can run any code"):
        build_model(custom("Random"), 7, 0, trusted)


def test_a_check_does_not_change_the_global_generator() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    elements = check(custom("Random"))
    assert torch.rand(1) == expected
    # convolution, BatchNorm, linear, linear
    assert elements == 8 * 28 + 8 * 4 + 1 + 1800 * 16 + 16 + 17 * 7


MISTAKES = {
    "lazy": "has lazy layers",
    "frozen": "has no trainable parameters",
    "extra state": "has a state_dict with extra state",
    "unseeded": "has different initial weights each time",
    "tuple": "returns a tuple: expected a tensor of logits",
    "shape": r"returns torch.float32 of shape \(2, 2\) for 2 images: "
    r"expected logits of shape \(2, 7\)",
    "dtype": r"returns torch.int64 of shape \(2, 7\)",
    "in place": r"raises RuntimeError: one of the variables needed for gradient computation has",
    "testing": r"raises KeyError: 'testing' \(.*nets.py, line \d+\) for images of \(2, 3, 32, 32\)",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_network_that_cannot_be_trained_is_reported_in_one_line(
    mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mistake != "extra state":
        monkeypatch.delattr(nets.Odd, "get_extra_state")
    with pytest.raises(UserError, match=f"^model: tests.nets.Odd {MISTAKES[mistake]}") as error:
        check(custom("Odd", mistake=mistake))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (custom("Nothing"), r"model\._target_: .*nets\.py has no class or function Nothing$"),
        (
            custom("X", "nowhere.at.all"),
            r"model\._target_: module nowhere not found in /",
        ),
        (
            custom("X", "tests.nowhere"),
            r"model\._target_: module tests\.nowhere not found in /",
        ),
        (
            custom("broken"),
            r"model: tests\.nets\.broken raises RuntimeError: no network for 7 classes",
        ),
        (
            custom("no_network"),
            r"model: tests\.nets\.no_network returns a dict: expected a torch\.nn",
        ),
        (custom("Random", depth=3), r".* got an unexpected keyword argument 'depth'$"),
        (
            custom("Random", num_classes=3),
            r".* multiple values for keyword argument 'num_classes'$",
        ),
        (custom("Linear", "torch.nn"), r".* got an unexpected keyword argument 'num_classes'$"),
        (custom("Random", probability="${oc.env:NOT_SET}"), r".* variable NOT_SET is not set"),
    ],
)
def test_a_network_that_cannot_be_built_is_reported(config: CustomModel, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        check(config)


def test_an_error_at_import_is_reported_with_its_line(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "fails_at_import.py").write_text("import json\n\nimport not_there\n")
    with pytest.raises(UserError) as error:
        check(custom("Net", "fails_at_import"))
    assert str(error.value) == (
        "model._target_: importing fails_at_import raises ModuleNotFoundError: "
        f"No module named 'not_there' ({tmp_path}/fails_at_import.py, line 3). "
        "Install not_there, or correct this line."
    )


def test_images_too_small_for_vgg_are_refused_but_not_for_resnet() -> None:
    with pytest.raises(
        UserError,
        match=r"^model: vgg11 expects images of at least 32 pixels in height and width, got 28;",
    ):
        check(Model(name="vgg11"), image_size=28)
    # parameters for 10 classes, 3 classes fewer, running means and variances of BatchNorm
    assert check(Model(name="resnet18"), image_size=28) == 11_173_962 - 3 * 513 + 2 * 4800

"""Overrides: short names, groups, custom code, and the ranges of sweeps."""

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from cifar_exp.cli.overrides import translate_overrides, with_exact_ranges
from cifar_exp.errors import UserError


def translate(typed: list[str]) -> list[str]:
    return translate_overrides(typed, has_config_dir=False)


@pytest.mark.parametrize(
    ("typed", "translated"),
    [
        ("lr=0.03", "optimizer.lr=0.03"),
        ("batch_size=32,128", "data.batch_size=32,128"),
        ("epochs=range(1,4)", "training.epochs=range(1,4)"),
        ("dropout=choice(0.1,0.2)", "model.dropout=choice(0.1,0.2)"),
        ("weight_decay=1e-4", "optimizer.weight_decay=1e-4"),
        ("lr=high", "lr=high"),
        ("lr=high,low", "lr=high,low"),
        ("lr=glob(*)", "lr=glob(*)"),
        ("lr=[high]", "lr=[high]"),
        ('lr="${oc.decode:${oc.env:RATE}}"', 'optimizer.lr="${oc.decode:${oc.env:RATE}}"'),
        ("seed=1", "seed=1"),
    ],
)
def test_numbers_have_a_dotted_key_and_names_are_options(typed: str, translated: str) -> None:
    assert translate([typed]) == [translated]


@pytest.mark.parametrize(
    ("typed", "translated"),
    [
        (
            ["model._target_=a.B", "model.depth=3", "dropout=0.5"],
            ["++model._target_=a.B", "++model.depth=3", "++model.dropout=0.5", "model=own"],
        ),
        (["+model._target_=a.B", "model=mine"], ["++model._target_=a.B", "model=mine"]),
        (
            ["data._target_=a.b,a.c", "batch_size=32", "~data.x", "model.width=0.5"],
            [
                "++data._target_=a.b,a.c",
                "++data.batch_size=32",
                "~data.x",
                "model.width=0.5",
                "data=own",
            ],
        ),
        (["optimizer._target_=a.B", "model.depth=3"], ["optimizer._target_=a.B", "model.depth=3"]),
    ],
)
def test_custom_code_accepts_any_setting(typed: list[str], translated: list[str]) -> None:
    assert translate(typed) == translated


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("logger=null", "logger=null: expected one of mlflow, none, .*; write logger=none"),
        ("scheduler=null", "scheduler=null: expected one of .*; write scheduler=constant"),
        ("scheduler=none,null", "scheduler=null: expected one of"),
        ("optimizer=0.1", "optimizer=0.1: expected one of adam, adamw, lion, rmsprop, sgd$"),
        ("optimizer=[sgd,adam]", "expected one option; to sweep write -m optimizer=sgd,adam"),
        ("+lr=0.1", r"\+lr=0.1: expected no plus, since lr exists; write lr=0.1"),
        ("++lr=0.1", "write lr=0.1"),
        ("+experiment=demo", "write experiment=demo"),
        ("+hydra/launcher=slurm", "expected no plus.*; write hydra/launcher=slurm"),
        ("hydra/launcher=null", "hydra/launcher=null: expected the name of an option"),
        ("hydra=1", "hydra=1: expected the name of an option"),
        ("@lr=1", "@lr=1: expected the name of an option"),
        ("lr = 0.1", "lr = 0.1: expected no spaces; write lr=0.1$"),
        ("lr= 0.1 seed=1", "lr= 0.1: expected no spaces; write lr=0.1$"),
        ("seed=1 lr =0.1", "lr =0.1: expected no spaces; write lr=0.1$"),
        ("lr 0.1", "lr 0.1: expected no spaces; write lr=0.1$"),
        ("optimizer.name=sgd", "optimizer.name=sgd: .*; write optimizer=sgd$"),
        ("scheduler.name=cosine", "write scheduler=cosine$"),
        ("lr=glob(zzz*)", r"lr=glob\(zzz\*\): matches no option of lr; its options are "),
        ("lr=0.1, 0.01, 0.001", "expected no spaces; write lr=0.1,0.01,0.001$"),
    ],
)
def test_the_message_contains_what_to_type(typed: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        translate(typed.split())


@pytest.mark.parametrize(
    ("typed", "translated", "printed"),
    [
        (["lr=0.3", "lr=high"], ["lr=high"], "lr=high, not lr=0.3"),
        (["lr=high", "lr=0.3"], ["optimizer.lr=0.3"], "lr=0.3, not lr=high"),
        (["seed=1", "optimizer.lr=1", "lr=2"], ["seed=1", "optimizer.lr=2"], "lr=2, not lr=1"),
        (["seed=1", "seed=1"], ["seed=1"], ""),
        (["+data.train_size=60"] * 2, ["+data.train_size=60"], ""),
        (["+data.train_size=60", "data.train_size=60"], ["data.train_size=60"], ""),
    ],
)
def test_the_last_value_of_a_key_is_used_and_printed(
    capsys: pytest.CaptureFixture[str], typed: list[str], translated: list[str], printed: str
) -> None:
    assert translate(typed) == translated
    assert capsys.readouterr().err == (
        f"set twice, and the last value is used: {printed}\n" if printed else ""
    )


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a=range(0.1,0.5,0.1)", ["0.1", "0.2", "0.3", "0.4"]),
        ("a=range(0.01,0.05,0.01)", ["0.01", "0.02", "0.03", "0.04"]),
        ("a=sort(range(0.1,0.5,0.1),reverse=true)", ["0.4", "0.3", "0.2", "0.1"]),
        ("a=range(1,0,-0.25)", ["1.0", "0.75", "0.5", "0.25"]),
        ("a=range(1e-5,4e-5,1e-5)", ["1e-05", "2e-05", "3e-05"]),
        ("a=range(0,3)", ["0", "1", "2"]),
        ("a=range(3,0)", []),
    ],
)
def test_the_values_of_a_range_are_decimal_fractions(text: str, values: list[str]) -> None:
    overrides = with_exact_ranges([OverridesParser.create().parse_override(text)])
    (runs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    assert runs == [[f"a={value}"] for value in values]


def test_an_infinite_range_is_refused() -> None:
    with pytest.raises(UserError, match="expected finite numbers"):
        with_exact_ranges([OverridesParser.create().parse_override("a=range(0,inf)")])


@pytest.mark.slow
@pytest.mark.integration
def test_a_typed_value_has_the_run_of_a_range_and_minus_zero_is_zero(train) -> None:
    tiny = ["data=synthetic", "data.train_size=10", "data.test_size=10", "batch_size=10"]
    tiny += ["model=vgg11", "model.width=0.015625", "epochs=1", "logger=none"]
    output = train("-m", *tiny, "dropout=range(0.1,0.4,0.1)", "weight_decay=0,-0.0")
    assert "sweep of 3 runs" in output
    assert "finished before" in train(*tiny, "dropout=0.3")

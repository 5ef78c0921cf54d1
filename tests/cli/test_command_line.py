"""Mistakes on the command line: what is said, and with which exit status."""

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from cifar_exp.cli.command_line import with_dotted_keys, with_exact_ranges
from cifar_exp.errors import UserError

MISTAKES = {
    # unknown keys and options, with the nearest name
    "optimizer.lrr=1": "optimizer.lrr: unknown setting; did you mean optimizer.lr?",
    "lrr=1": "did you mean lr?",
    "model.widht=0.5": "did you mean model.width?",
    "foo=1": "foo: unknown setting; `python train.py --cfg job` lists them",
    "+model.foo=1": "model.foo: unknown setting",
    "optimizer=admm": "expected one of adam, adamw, lion, rmsprop, sgd; did you mean adam?",
    "lr=to_high": "expected a number or one of article, high, low, too_high; did you mean too",
    "optimizer.momentum=0.9": "optimizer=adam has no such setting; choose optimizer=sgd or ",
    "--foo": "--foo: unknown option",
    # wrong types and ranges
    "optimizer.lr=abc": 'optimizer.lr: expected a number, got "abc"',
    "lr=-1": "optimizer.lr: expected a number greater than 0, got -1",
    "lr=nan": "optimizer.lr: expected a finite number, got NaN",
    "lr=true": "optimizer.lr: expected a number, got true",
    "model.dropout=3": "model.dropout: expected a number less than 1, got 3",
    "epochs=0": "training.epochs: expected a number greater than or equal to 1, got 0",
    "batch_size=1.5": "data.batch_size: expected an integer, got 1.5",
    "scheduler.milestones=[5,a]": 'scheduler.milestones.1: expected an integer, got "a"',
    "optimizer.name=adaam": "expected one of adam, adamw, lion, rmsprop, sgd; did you mean adam",
    # not what was meant
    "epochs": "epochs: expected KEY=VALUE",
    "lr=0.1,0.2": "lr=0.1,0.2: several values are a sweep; write -m lr=0.1,0.2",
    "data=image_folder": "data.root: a value is needed, such as data.root=VALUE",
    "-m lr=0.1,abc": "give either numbers or the names of levels, not both",
    "-m optimizer.lr=0.1,abc": "in the run optimizer.lr=abc",
    "--run --multirun": "expected one of --run, --multirun",
    "epochs=null": "training.epochs: expected an integer, got null",
    "dropout=[0.5]": "model.dropout: expected a number, got [0.5]",
    "+lr=0.1": "+lr=0.1: expected no plus, since lr is known; write lr=0.1",
    "model=null": "model=null: expected one of own, resnet18, vgg11",
    # a value of another kind
    "lr=[0.1,0.01]": "expected a number, got [0.1, 0.01]; to sweep write -m lr=0.1,0.01",
    "scheduler.milestones=2": "expected a list, got 2; write scheduler.milestones=[2]",
    "scheduler.milestones=1,2": "several values are a sweep; write scheduler.milestones=[1,2], or",
    "data=image_folder data.root=2024": "expected a string, got 2024; write data.root=./2024",
    "logger.project=7": "expected a string, got 7; write 'logger.project=\"7\"'",
    "data=synthetic data.root=x": "data=synthetic has no such setting; choose data=cifar10 or",
    # a nearest name that helps
    "training.lr=1": "training.lr: unknown setting; did you mean optimizer.lr?",
    "learning_rate=1": "learning_rate: unknown setting; did you mean lr?",
    "+seed=1": "+seed: expected no plus, since seed is known",
    "LR=1": "LR: unknown setting; did you mean lr?",
    "optimizer=SGD": "expected one of adam, adamw, lion, rmsprop, sgd; did you mean sgd?",
    "trainer.max_epochs=3": "trainer.max_epochs: unknown setting; did you mean training.epochs?",
    "+optimizer.foo=1": "optimizer.foo: unknown setting; `python train.py --cfg job` lists them",
    "lr=1/10": "lr=1/10: expected a number or one of article",
    "lr='0.1'": "lr=0.1: expected a number or one of article, high, low, too_high; write lr=0.1 wi",
    "-cn experiment/demo experiment=demo": "experiment: the chosen configuration has no such setti",
    # what no run goes without
    "~scheduler": "~scheduler: expected an option, since every run needs one; write scheduler=cons",
    "~logger": "~logger: expected an option, since every run needs one; write logger=none",
    "~model=vgg16": "~model=vgg16: expected an option, since every run needs one",
    # what a sweep has not
    "-m lr=interval(0.1,0.2)": "lr=interval(0.1,0.2): expected a list or a range",
    "-m seed=range(0,2),5": "expected one list or one range, not both; write seed=0,1,5",
    "-m lr=0.1,0.2 --cfg all": "--cfg all: expected no -m, which goes with --cfg job alone",
    "hydra/launcher=ray": "hydra/launcher=ray: expected a sweep; add -m",
    "data.root=~/photos": "a value with special characters needs quotes",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_two_lines(train, mistake: str) -> None:
    said = train(*mistake.split(" "), status=1)
    assert MISTAKES[mistake] in said
    assert len(said.strip().splitlines()) <= 2
    assert not train.runs.exists()  # nothing was begun


def test_cuda_where_there_is_none_is_refused(train) -> None:
    train.environment["CUDA_VISIBLE_DEVICES"] = ""
    said = train("data=synthetic", "device=cuda", status=1)
    assert "PyTorch finds no CUDA device here" in said
    assert len(said.strip().splitlines()) <= 2


def test_a_data_folder_that_is_not_there_is_refused(train) -> None:
    said = train("data=image_folder", "data.root=nowhere", status=1)
    assert "nowhere" in said
    assert len(said.strip().splitlines()) <= 2
    assert not train.runs.exists()


def test_a_folder_that_cannot_be_written_is_refused(train) -> None:
    (train.folder / "file").write_text("no folder")
    said = train("data=synthetic", "paths.results=file", status=1)
    assert "expected a writable folder" in said
    assert len(said.strip().splitlines()) <= 2


def test_the_traceback_is_there_for_who_asks(train) -> None:
    train.environment["HYDRA_FULL_ERROR"] = "1"
    assert "Traceback" in train("optimizer.lr=abc", status=1)


def test_the_settings_are_shown_without_importing_pytorch(train) -> None:
    # python -X importtime names every module that is imported
    train.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    shown = train("--cfg", "job")
    assert "lr: 0.001" in shown
    assert "| hydra" in shown
    assert "| torch" not in shown


@pytest.mark.parametrize(
    ("typed", "understood"),
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
def test_numbers_reach_their_dotted_key_and_words_their_group(typed: str, understood: str) -> None:
    assert with_dotted_keys([typed]) == [understood]


@pytest.mark.parametrize(
    ("typed", "understood"),
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
def test_code_of_ones_own_takes_settings_that_nobody_else_knows(
    typed: list[str], understood: list[str]
) -> None:
    assert with_dotted_keys(typed) == understood


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("logger=null", "logger=null: expected one of none, .*; write logger=none"),
        ("scheduler=null", "scheduler=null: expected one of .*; write scheduler=constant"),
        ("scheduler=none,null", "scheduler=null: expected one of"),
        ("optimizer=0.1", "optimizer=0.1: expected one of adam, adamw, lion, rmsprop, sgd$"),
        ("optimizer=[sgd,adam]", "expected one option; to sweep write -m optimizer=sgd,adam"),
        ("+lr=0.1", r"\+lr=0.1: expected no plus, since lr is known; write lr=0.1"),
        ("++lr=0.1", "write lr=0.1"),
        ("+experiment=demo", "write experiment=demo"),
        ("--lr 0.1", "--lr: expected a setting without dashes; write lr=0.1"),
        ("--lr=0.1", "write lr=0.1"),
        ("--batch-size 8", "write batch_size=8"),
        ("--learning-rate 0.1", "write lr=0.1"),
        ("--epochs seed=1", "write epochs=VALUE"),
        ("lr = 0.1", "lr = 0.1: expected no spaces; write lr=0.1$"),
        ("lr= 0.1 seed=1", "lr= 0.1: expected no spaces; write lr=0.1$"),
        ("seed=1 lr =0.1", "lr =0.1: expected no spaces; write lr=0.1$"),
        ("lr 0.1", "lr 0.1: expected no spaces; write lr=0.1$"),
        ("optimizer.name=sgd", "optimizer.name=sgd: .*; write optimizer=sgd$"),
        ("scheduler.name=cosine", "write scheduler=cosine$"),
        ("-m lr=glob(zzz*)", r"lr=glob\(zzz\*\): matches no option of lr; expected some of "),
        ("--package model", "--package model: expected --cfg"),
        ("-m lr=0.1, 0.01, 0.001", "expected no spaces; write lr=0.1,0.01,0.001$"),
    ],
)
def test_what_to_type_is_in_the_message(typed: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        with_dotted_keys(typed.split())


@pytest.mark.parametrize(
    ("typed", "understood", "printed"),
    [
        (["lr=0.3", "lr=high"], ["lr=high"], "lr=high, not lr=0.3"),
        (["lr=high", "lr=0.3"], ["optimizer.lr=0.3"], "lr=0.3, not lr=high"),
        (["seed=1", "optimizer.lr=1", "lr=2"], ["seed=1", "optimizer.lr=2"], "lr=2, not lr=1"),
        (["seed=1", "seed=1"], ["seed=1"], ""),
        (["+data.train_size=60"] * 2, ["+data.train_size=60"], ""),
        (["+data.train_size=60", "data.train_size=60"], ["data.train_size=60"], ""),
    ],
)
def test_of_a_key_that_is_set_twice_the_last_value_is_used_and_printed(
    capsys: pytest.CaptureFixture[str], typed: list[str], understood: list[str], printed: str
) -> None:
    assert with_dotted_keys(typed) == understood
    assert capsys.readouterr().err == (
        f"set twice, and the last is used: {printed}\n" if printed else ""
    )


def test_values_of_options_are_left_alone() -> None:
    assert with_dotted_keys(["--config-name", "lr=0.1"]) == ["--config-name", "lr=0.1"]


def test_options_may_stand_between_overrides() -> None:
    typed = ["experiment=demo", "-m", "lr=0.1,0.2"]
    assert with_dotted_keys(typed) == ["-m", "experiment=demo", "optimizer.lr=0.1,0.2"]


def test_an_experiment_without_its_first_line_is_told(train) -> None:
    (train.folder / "experiment").mkdir()
    (train.folder / "experiment" / "mine.yaml").write_text("seed: 1")
    said = train("--config-dir", str(train.folder), "experiment=mine", status=1)
    assert "its file lacks the first line `# @package _global_`" in said


def test_cifar10_that_cannot_be_had_is_told_before_anything_is_begun(train) -> None:
    # a proxy on a port that nobody listens to: no network, as far as urllib can tell
    train.environment |= {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    train.environment |= {"no_proxy": "", "NO_PROXY": "", "HTTPS_PROXY": "http://127.0.0.1:9"}
    said = train("-m", "seed=0,1", status=1)
    assert "cannot download CIFAR-10 from https://" in said
    assert "Put cifar-10-python.tar.gz" in said
    assert "data=synthetic or data=image_folder" in said
    assert len(said.strip().splitlines()) == 3
    assert not train.runs.exists()


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
def test_a_range_has_the_numbers_that_one_would_type(text: str, values: list[str]) -> None:
    overrides = with_exact_ranges([OverridesParser.create().parse_override(text)])
    (runs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    assert runs == [[f"a={value}"] for value in values]


def test_a_range_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match="expected finite numbers"):
        with_exact_ranges([OverridesParser.create().parse_override("a=range(0,inf)")])


@pytest.mark.slow
@pytest.mark.integration
def test_a_typed_value_finds_the_run_of_a_range_and_minus_zero_is_zero(train) -> None:
    tiny = ["data=synthetic", "data.train_size=10", "data.test_size=10", "batch_size=10"]
    tiny += ["model=vgg11", "model.width=0.015625", "epochs=1", "logger=none"]
    said = train("-m", *tiny, "dropout=range(0.1,0.4,0.1)", "weight_decay=0,-0.0")
    assert "sweep of 3 runs" in said
    assert "finished before" in train(*tiny, "dropout=0.3")

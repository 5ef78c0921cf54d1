"""Bitwise equality of runs on a GPU: `python -m pytest -m gpu`."""

from itertools import zip_longest

import pytest

from cifar_exp.config.schema import Training as Length
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import AdamW, Lion, RmsProp, Sgd
from cifar_exp.schedulers import Constant, Cosine, MultiStep, OneCycle
from cifar_exp.training import throttle
from tests.cuda_emulator.plugin import is_emulated
from tests.on_gpu import CPU, Runs, assert_same, checkpoint_of, config, data

pytestmark = pytest.mark.gpu
ROUNDING_ON_GPU = 0.06  # two of 40 images
RESNET = Model(name="resnet18", width=0.0625, dropout=0.1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("images"))


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)


SETTINGS = {
    "adam": {"scheduler": OneCycle()},
    "sgd": {
        "optimizer": Sgd(weight_decay=1e-3),
        "scheduler": Cosine(),
        "data": data(augment="flip", cutout=0, normalize="channels", test_size=260),
    },
    "plain sgd": {
        "optimizer": Sgd(momentum=0, nesterov=False),
        "scheduler": MultiStep(milestones=(1,)),
        "data": data(augment="none", test_flip=True),
    },
    "rmsprop": {
        "optimizer": RmsProp(momentum=0.9, weight_decay=1e-3),
        "scheduler": Constant(),
        "data": data(augment="crop", cutout=0),
    },
    "lion": {"optimizer": Lion(lr=1e-3, weight_decay=0.1)},
    "resnet18": {"model": RESNET, "optimizer": AdamW(), "data": data(train_size=32)},
    "dropout in testing": {
        "model": Model(name="vgg11", width=0.0625, dropout=0.5, dropout_in_testing=True),
        "data": data(train_size=32, test_size=260, test_flip=True),
    },
    "a batch larger than the data": {"data": data(train_size=20, batch_size=64)},
    "nondeterministic kernels": {"deterministic": False},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_replayed_steps_equal_eager_steps_and_nearly_those_on_the_cpu(
    runs: Runs, name: str
) -> None:
    run = config(**SETTINGS[name])
    replayed = runs.done(run)
    reproducible = run.deterministic or is_emulated()
    assert_same(runs.done(run, graphs=False), replayed, 0 if reproducible else ROUNDING_ON_GPU)
    # the same random numbers; only rounding differs
    rounding = 0.01 if is_emulated() else ROUNDING_ON_GPU
    assert_same(runs.done(run, CPU), replayed, rounding)


def test_replayed_steps_of_one_image_equal_eager_steps(runs: Runs) -> None:
    run = config(data=data(train_size=4, batch_size=1))
    assert_same(runs.done(run, graphs=False), runs.done(run))


@pytest.mark.parametrize("name", ["adam", "resnet18"])
def test_replayed_steps_equal_eager_steps_in_bf16(runs: Runs, name: str) -> None:
    run = config(**SETTINGS[name], precision="bf16")
    replayed = runs.done(run)
    assert_same(runs.done(run, graphs=False), replayed)


def test_runs_that_take_turns_equal_single_runs(runs: Runs, every_step: None) -> None:
    together = [
        config(seed=0, precision="bf16"),
        config(seed=1, optimizer=Sgd()),
        config(seed=2, model=RESNET),
    ]
    images = runs.images(together[0])
    alone = [runs.done(run, images=images) for run in together]
    taking_turns = [runs(run, images=images) for run in together]
    list(zip_longest(*(run.run() for run in taking_turns)))
    for one, other in zip(alone, taking_turns, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bf16", "optimizer": Sgd()},
        pytest.param({"optimizer": RmsProp(momentum=0.5)}, marks=pytest.mark.slow),
        pytest.param({"optimizer": Sgd(momentum=0, nesterov=False)}, marks=pytest.mark.slow),
    ],
    ids=["adam", "sgd in bf16", "rmsprop", "plain sgd"],
)
def test_a_run_resumes_from_any_step_bit_for_bit(
    runs: Runs, every_step: None, changes: dict[str, object]
) -> None:
    run = config(scheduler=OneCycle(), **changes)
    whole, states = runs(run), {}
    for _ in whole.run():
        states[whole.steps] = checkpoint_of(whole)
    assert sorted(states) == [1, 2, 3, 4, 5, 6]  # three steps per epoch
    for steps in (1, 3, 5):  # within an epoch, at its end, before its last step
        resumed = runs(run)
        resumed.load_state_dict(states[steps])
        list(resumed.run())
        assert_same(resumed, whole)


def test_a_run_resumes_on_the_cpu_and_without_graphs(runs: Runs, every_step: None) -> None:
    run = config()
    whole, state = runs(run), None
    for _ in whole.run():
        if whole.steps == 4:
            state = checkpoint_of(whole)
    assert state is not None
    eager, on_cpu = runs(run, graphs=False), runs(run, CPU)
    for resumed in (eager, on_cpu):
        resumed.load_state_dict(state)
        list(resumed.run())
    assert_same(eager, whole)
    assert_same(on_cpu, whole, 0.01 if is_emulated() else ROUNDING_ON_GPU)


def test_predictions_agree_with_the_test_accuracy(runs: Runs) -> None:
    run = config(training=Length(epochs=1))
    done = runs.done(run)
    predicted = done.logits(done.batches.test_images(slice(None))).argmax(1).cpu()
    labels = runs.dataset(run).test.labels
    assert (predicted == labels).double().mean() == done.history[0]["test_accuracy"]

"""Memory and streams of runs on a GPU."""

import gc

import pytest
import torch
from torch import nn

from cifar_exp.config.schema import Training as Length
from cifar_exp.models.settings import CustomModel, Model
from cifar_exp.out_of_memory import is_out_of_memory
from cifar_exp.training import loop, throttle
from cifar_exp.training.device import new_stream
from cifar_exp.training.step import Step
from tests.cuda_emulator.plugin import is_emulated
from tests.on_gpu import GPU, Runs, assert_same, checkpoint_of, config, data

pytestmark = pytest.mark.gpu
TIED = {"_target_": "tests.nets.Tied"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("images"))


def test_the_peak_memory_of_a_run_does_not_depend_on_the_order(runs: Runs) -> None:
    large = data(train_size=200, batch_size=64, normalize="channels")
    settings = [config(seed=seed, data=large, training=Length(epochs=1)) for seed in range(2)]
    images = runs.images(settings[0])
    first, second = (
        runs.done(run, images=images).history[0]["peak_memory_bytes"] for run in settings
    )
    assert first == second > 0


def test_the_peak_memory_of_a_resumed_run_includes_its_optimizer_state(runs: Runs) -> None:
    whole = runs(config())
    state = None
    for _ in whole.run():
        if len(whole.history) == 1 and state is None:
            state = checkpoint_of(whole)
    assert state is not None
    resumed = runs(config())
    resumed.load_state_dict(state)
    list(resumed.run())
    before, after = (run.history[1]["peak_memory_bytes"] for run in (whole, resumed))
    weights = sum(weight.nbytes for weight in whole.model.parameters())
    assert abs(before - after) < weights  # Adam's moments are twice as large


def test_the_peak_memory_of_a_custom_network_excludes_other_runs(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)
    custom = CustomModel(**TIED)
    settings = config(model=custom, training=Length(epochs=1))
    images = runs.images(settings)
    alone = runs(settings, images=images)
    list(alone.run())
    run = runs(settings, images=images)
    held = []
    for _ in run.run():  # another run allocates and frees memory between the turns
        held = [torch.zeros(1_000_000, device=GPU) for _ in range(2 - len(held))]
    assert run.history[0]["peak_memory_bytes"] == alone.history[0]["peak_memory_bytes"]


def test_warm_up_does_not_raise_the_peak_memory(runs: Runs) -> None:
    run = config(training=Length(epochs=1), data=data(train_size=1, batch_size=1, test_size=1))
    width = 0.25 if is_emulated() else 1  # cuDNN's workspaces are smaller than the weights
    wide = runs.done(run.model_copy(update={"model": Model(name="vgg11", width=width)}))
    weights = sum(weight.nbytes for weight in wide.model.parameters())
    # weights, gradients, Adam's two moments, a temporary gradient and a workspace; the copies
    # of the warm-up would be three times the weights
    assert wide.history[0]["peak_memory_bytes"] < 6.5 * weights


def test_a_run_allocates_no_memory_after_capture(runs: Runs) -> None:
    run = runs(config())
    events = run.run()
    next(events)
    reserved = torch.cuda.memory_reserved()
    list(events)
    assert torch.cuda.memory_reserved() <= reserved


def test_a_run_that_ends_frees_its_memory_without_garbage_collection(runs: Runs) -> None:
    run = config()
    images = runs.images(run)
    images.load(run.data)
    runs.done(run, images=images)  # allocations that all runs share
    gc.collect()
    before = torch.cuda.memory_allocated()
    gc.disable()
    try:
        runs.done(run, images=images)
        assert torch.cuda.memory_allocated() == before
    finally:
        gc.enable()


class Owner:
    """Uses a stream."""


def test_streams_in_use_are_distinct_and_those_of_ended_runs_are_used_again() -> None:
    first, second = Owner(), Owner()
    kept, freed = new_stream(GPU, first), new_stream(GPU, second)
    assert kept != freed
    del second
    for _ in range(40):  # more than PyTorch's pool
        assert new_stream(GPU, Owner()) == freed


@pytest.mark.slow
def test_many_short_runs_do_not_affect_a_long_run(runs: Runs) -> None:
    long = runs(config(training=Length(epochs=3)))
    events = long.run()
    next(events)
    tiny = data(train_size=1, test_size=1, batch_size=1, augment="none", cutout=0)
    short = config(data=tiny, model=Model(name="vgg11", width=0.0625))
    images = runs.images(short)
    for _ in range(33):
        graphs_of_short = runs(short, images=images).run()
        next(graphs_of_short)
        graphs_of_short.close()
    list(events)
    assert_same(long, runs.done(long.config))


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("yields", [0, 3, 5])
def test_a_run_can_be_closed_at_any_yield(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, yields: int
) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)
    run = runs(config(training=Length(epochs=1)))
    events = run.run()
    for _ in range(yields + 1):
        next(events, None)
    # the emulator reports memory that is freed in use
    events.close()
    torch.cuda.set_sync_debug_mode("default")
    del events, run


def test_a_run_that_fails_frees_no_memory_in_use(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs(config())

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(run, "_metrics", fail)
    with pytest.raises(OSError, match="disk full"):
        list(run.run())
    assert run._stream is not None
    assert run._stream.query()


def test_failed_allocations_are_out_of_memory_errors_and_the_next_run_trains(runs: Runs) -> None:
    run = config(training=Length(epochs=1))
    expected = runs.done(run)
    gc.collect()
    first, total = torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[1]
    # from the first weights to the last batch; the caching allocator takes 2 or 20 MiB at once
    limits = (200, 500, 900, 1100, 1300) if is_emulated() else (1000, 3000, 5000, 23000, 45000)
    failed = 0
    for kilobytes in limits:
        torch.cuda.empty_cache()
        fraction = (torch.cuda.memory_reserved() + 1000 * kilobytes) / total
        torch.cuda.set_per_process_memory_fraction(fraction)
        try:
            runs.done(run)
        except RuntimeError as error:
            failed += is_out_of_memory(error)
            del error
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        gc.collect()
        assert torch.cuda.memory_allocated() <= first
        assert not torch.cuda.is_current_stream_capturing()
    assert 2 <= failed <= len(limits)
    assert_same(runs.done(run), expected)


class Synchronizing(nn.Module):
    """Reads a value of the GPU in each step, which cannot be captured."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images) * (images.sum().isfinite().item() or 1)


def test_steps_that_cannot_be_captured_run_eagerly_with_a_warning(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build = loop.build_model
    monkeypatch.setattr(loop, "build_model", lambda *args: Synchronizing(build(*args)))
    run = config()
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    with caplog.at_level("WARNING", "cifar_exp"):
        eager = runs(run)
        list(eager.run())
    assert not eager.replays
    (warning,) = (r.getMessage() for r in caplog.records if r.name.startswith("cifar_exp"))
    assert "cannot be captured as CUDA graphs" in warning
    assert "\n" not in warning
    assert_same(eager, runs.done(run, graphs=False))


def test_a_step_that_fails_before_its_first_kernel_is_captured_without_pytorchs_warning(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Step.train

    def fail_in_capture(self: Step, indices: torch.Tensor) -> None:
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("not in a graph")
        train(self, indices)

    monkeypatch.setattr(Step, "train", fail_in_capture)
    eager = runs(config(training=Length(epochs=1)))
    list(eager.run())  # warnings are errors
    assert not eager.replays


def test_a_custom_network_trains_eagerly_with_a_warning(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    custom = CustomModel(**TIED)
    with caplog.at_level("WARNING", "cifar_exp"):
        list(runs(config(model=custom, training=Length(epochs=1))).run())
    (warning,) = (r.getMessage() for r in caplog.records if r.name.startswith("cifar_exp"))
    assert "without CUDA graphs" in warning

"""The training loop, a generator, so that several runs can take turns in one process."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cifar_exp.config.identity import run_id
from cifar_exp.config.metrics import METRICS, evaluated_split
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.batches import Batches, DeviceImages
from cifar_exp.models.build import build_model
from cifar_exp.models.dropout import Dropout
from cifar_exp.models.settings import CustomModel, NetworkSection
from cifar_exp.out_of_memory import is_out_of_memory
from cifar_exp.training.batch_norm import convert_sync_batchnorm
from cifar_exp.training.cuda_graphs import CudaGraphs, StepFn, StepRunner
from cifar_exp.training.device import (
    Clock,
    Compute,
    Timestamp,
    allocate_workspace,
    current_stream,
    new_stream,
    on_stream,
)
from cifar_exp.training.memory import PeakMemory
from cifar_exp.training.process_group import ALONE, ProcessGroup
from cifar_exp.training.progress import (
    EpochMetrics,
    Event,
    Progress,
    best_epoch,
    has_diverged,
)
from cifar_exp.training.randomness import derived_seed, generator
from cifar_exp.training.step import Step
from cifar_exp.training.throttle import Throttle

_POLL_SECONDS = 1e-4
# Expected time of a training step, in evaluation steps of as many images.
_EVALUATION_STEPS = 3
_SECONDS_BETWEEN_CHECKS = 1.0  # of whether the other processes of the run are alive


class Training:
    """Trains one run.

    In names, `test` means the evaluated split: the validation images with `data.val_fraction`.

    Random numbers are derived from (seed, purpose, epoch), and the next epoch is
    `len(history) + 1`. A checkpoint therefore contains only the network, the optimizer, the
    history, the steps and metric sums of an unfinished epoch, and the weights of the best epoch if
    `training.keep` selects them.

    Args:
        config: settings of the run.
        images: images on the device of `compute`.
        classes: names of the classes.
        compute: device, precision and threads.
        graphs: whether to replay steps as CUDA graphs on a GPU.
        processes: processes that train the run together.

    Attributes:
        history: metrics of the completed epochs.
        replays: whether steps are replayed as CUDA graphs. `run` sets it to False if they cannot
            be captured.
    """

    def __init__(
        self,
        config: RunConfig,
        images: DeviceImages,
        classes: tuple[str, ...],
        compute: Compute,
        graphs: bool = True,
        processes: ProcessGroup = ALONE,
    ) -> None:
        self.config = config
        self.compute = compute
        self.classes = classes
        images.load(config.data)  # shared by all runs, so not counted as memory of this one
        self._stream = new_stream(compute.device, owner=self)
        allocate_workspace(self._stream)
        self._peak_memory = PeakMemory(compute.device)
        with self._peak_memory.turn():
            self.batches = Batches(images, config.data)
            seed = derived_seed(config.seed, "weights")
            # custom code was checked when the settings were composed
            model = build_model(config.model, len(classes), seed, config.custom_code)
            convert_sync_batchnorm(model, processes)
            self.model = model.to(compute.device)
            self.step = Step(config, self.model, self.batches, compute, processes)
        self.history: list[EpochMetrics] = []
        self._best_weights: dict[str, Tensor] = {}  # on the CPU; filled only for training.keep=best
        self._split = evaluated_split(config.data.evaluated_on)
        self._steps = 0  # completed in the current epoch
        self._tested = 0  # images evaluated in the current epoch
        self._seconds = 0.0  # of these steps before the run was resumed
        self._processes = processes
        self._checked = time.monotonic()
        self._custom = isinstance(config.model, CustomModel)
        self._dropouts = [layer for layer in self.model.modules() if isinstance(layer, Dropout)]
        self._drops_in_testing = (
            isinstance(config.model, NetworkSection) and config.model.dropout_in_testing
        )
        # communication between processes cannot be captured on every system
        self.replays = graphs and compute.on_gpu and processes.alone
        self._clock = Clock(compute.device)
        self._started = self._clock.record()
        self._trained: Timestamp | None = None  # set during the evaluation
        self._throttle = Throttle(self._clock, by_time=processes.alone)

    @property
    def diverged(self) -> bool:
        """Whether the loss of the last epoch was non-finite or exploded."""
        if not self.history:
            return False
        last = self.history[-1]
        evaluated = last[METRICS["loss"].key(self._split)]
        return has_diverged(last["train_loss"], len(self.classes)) or not math.isfinite(evaluated)

    @property
    def finished(self) -> bool:
        """Whether the run has trained all epochs, diverged, or stopped early."""
        if self.diverged or len(self.history) >= self.config.training.epochs:
            return True
        patience = self.config.training.patience
        return patience is not None and len(self.history) - self.best_epoch >= patience

    @property
    def best_epoch(self) -> int:
        """The first epoch with the highest accuracy on the evaluated split; 0 without epochs."""
        accuracy = METRICS["accuracy"].key(self._split)
        return best_epoch([metrics[accuracy] for metrics in self.history])

    @property
    def total_steps(self) -> int:
        """Number of training steps of the whole run."""
        return self.batches.steps_per_epoch * self.config.training.epochs

    @property
    def steps(self) -> int:
        """Number of training steps so far."""
        return len(self.history) * self.batches.steps_per_epoch + self._steps

    def run(self) -> Iterator[Event]:
        """Train and evaluate the remaining epochs.

        Yields:
            `Progress` every few steps, with the number of steps that the device has completed, and
            `EpochMetrics` at the end of each epoch. At any yield the generator may be closed and
            a checkpoint may be saved.
        """
        if self._stream is not None:
            torch.cuda.synchronize(self.compute.device)  # the images are loaded for all streams
        events = self._run()
        try:
            while True:
                # global settings are restored at each yield, since another run may be next
                with (
                    on_stream(self._stream, self.config.deterministic),
                    self._peak_memory.turn(),
                ):
                    event = next(events, None)
                if event is None:
                    return
                yield event
        finally:
            # one of several processes does not share its GPU, and might wait forever
            if self._stream is not None and self._processes.alone:
                self._stream.synchronize()  # other runs may reuse the memory

    def _run(self) -> Iterator[Event]:
        run_step: StepRunner | None = None
        self._throttle.begin(self.steps)
        while not self.finished:
            epoch = len(self.history) + 1
            self._started = self._clock.record()
            self._begin_epoch(epoch)
            if run_step is None:
                run_step = self._step_runner()
                self._started = self._clock.record()
            yield from self._train(epoch, run_step)
            self._trained = trained = self._clock.record()
            yield from self._test(epoch, run_step)
            tested = self._clock.record()
            while not self._clock.passed(tested):
                yield from self._wait()
            train_seconds = self._seconds + self._clock.seconds(self._started, trained)
            metrics = self._metrics(epoch, train_seconds, self._clock.seconds(trained, tested))
            self.history.append(metrics)
            self._steps, self._tested, self._seconds, self._trained = 0, 0, 0.0, None
            if self.config.training.keep == "best" and self.best_epoch == epoch:
                self._best_weights = self._copied_weights()
            yield metrics

    def _step_runner(self) -> StepRunner:
        """Return the runner of this run's steps: CUDA graphs if possible, else eager."""
        if not self.replays:
            return _run_eagerly
        log = logging.getLogger(f"cifar_exp.{run_id(self.config)}")
        if self._custom:  # its forward method may depend on the host
            log.warning("model: a custom network trains without CUDA graphs")
            self.replays = False
            return _run_eagerly
        try:
            return self._captured()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            torch.cuda.synchronize(self.compute.device)  # raises if the CUDA context is unusable
            reason = str(error).strip().partition("\n")[0]
            log.warning(
                "steps cannot be captured as CUDA graphs, training without them: %s", reason
            )
            self.replays = False
            return _run_eagerly

    def _captured(self) -> CudaGraphs:
        """Capture the steps of all batch sizes; afterwards the run allocates no more memory."""
        graphs = CudaGraphs(self.step.tensors, self.compute.device)
        self.model.train()
        for size in _batch_sizes(self.batches.train_size, self.batches.batch_size):
            graphs.capture(self.step.train, "train", size)
        self._evaluate_model()
        for size in _batch_sizes(self.batches.test_size, self.batches.test_batch_size):
            graphs.capture(self.step.test, "test", size)
        self._peak_memory.settle()
        return graphs

    def _begin_epoch(self, epoch: int) -> None:
        seed = self.config.seed
        self._start_dropout("dropout", epoch, self._steps)
        self.batches.begin_epoch(
            generator(seed, "order", epoch), generator(seed, "augmentation", epoch)
        )

    def _start_dropout(self, purpose: str, epoch: int, steps: int) -> None:
        """Start the masks of the training or the evaluation of an epoch after some steps."""
        # a common number of masks, so that their tensors keep their addresses
        of = self.batches.steps_per_epoch
        if self._drops_in_testing:
            batches = -(-self.batches.test_size // self.batches.test_batch_size)
            of = max(of, batches * (1 + self.config.data.test_flip))
        for number, layer in enumerate(self._dropouts):
            key = derived_seed(
                self.config.seed, f"{purpose} {number}" if number else purpose, epoch
            )
            layer.start_epoch(key, steps, of=of)

    def _evaluate_model(self) -> None:
        """Set the network to evaluation mode, except dropout with `dropout_in_testing`."""
        self.model.eval()
        for layer in self._dropouts:
            layer.train(self._drops_in_testing)

    def _train(self, epoch: int, run_step: StepRunner) -> Iterator[Progress]:
        self.model.train()
        if self._steps == 0:
            self.step.train_sums.reset()
        size, batch_size = self.batches.train_size, self.batches.batch_size
        for step in range(self._steps, self.batches.steps_per_epoch):
            start = step * batch_size
            self.step.optimizer.set_lr(self._lr(epoch, step))
            self._seed_layers("layers", epoch, step)
            run_step(self.step.train, "train", start, min(batch_size, size - start))
            self._steps = step + 1
            yield from self._pause()
        self.step.train_sums.fetch()

    def _test(self, epoch: int, run_step: StepRunner) -> Iterator[Progress]:
        self._evaluate_model()
        if self._drops_in_testing:
            self._start_dropout("dropout in testing", epoch, 0)
        self.step.test_sums.reset()
        size, batch_size = self.batches.test_size, self.batches.test_batch_size
        for start in range(0, size, batch_size):
            self._seed_layers("layers in testing", epoch, start)
            run_step(self.step.test, "test", start, min(batch_size, size - start))
            self._tested = min(start + batch_size, size)
            yield from self._pause()
        self.step.test_sums.fetch()

    def _seed_layers(self, purpose: str, epoch: int, step: int) -> None:
        """Reseed PyTorch before a step of a custom network.

        Custom layers use PyTorch's global generators. Runs that take turns share these, and
        checkpoints do not contain their state.
        """
        if self._custom:
            torch.manual_seed(derived_seed(self.config.seed, f"{purpose} {step}", epoch))

    def _pause(self) -> Iterator[Progress]:
        if not self._throttle.is_due(self.steps):
            return
        yield self._progress()
        while self._throttle.is_ahead():
            yield from self._wait()

    def _wait(self) -> Iterator[Progress]:
        if self._processes.alone:
            yield self._progress()
        elif time.monotonic() - self._checked >= _SECONDS_BETWEEN_CHECKS:
            # no yield: all processes must yield at the same steps, regardless of their speed
            self._checked = time.monotonic()
            self._processes.check()
        time.sleep(_POLL_SECONDS)

    def _metrics(self, epoch: int, train_seconds: float, test_seconds: float) -> EpochMetrics:
        trained = self.step.train_sums.means(self.batches.train_size)
        tested = self.step.test_sums.means(self.batches.test_size)
        if has_diverged(trained["loss"], len(self.classes)):
            tested = dict.fromkeys(tested, math.nan)  # otherwise argmax of NaN logits is class 0
        values: dict[str, float] = {
            METRICS[name].key(split): value
            for split, means in (("train", trained), (self._split, tested))
            for name, value in means.items()
        }
        values["lr"] = self._lr(epoch, self.batches.steps_per_epoch - 1)
        values["train_seconds"] = train_seconds
        values[f"{self._split}_seconds"] = test_seconds
        values["images_per_second"] = self.batches.train_size / train_seconds
        values["peak_memory_bytes"] = self._peak_memory.bytes()
        return EpochMetrics(epoch, values)

    def _progress(self) -> Progress:
        # the speed of concurrent runs is measured by completed steps, not enqueued ones
        done, epochs = self._throttle.done(), len(self.history)
        trained = max(0.0, done / self.batches.steps_per_epoch - epochs)
        tested = self._tested / self.batches.test_size
        part = self._evaluation_part
        share = (epochs + (1 - part) * trained + part * tested) / self.config.training.epochs
        return Progress(done, self.total_steps, share)

    @property
    def _evaluation_part(self) -> float:
        """The fraction of an epoch's time that evaluation takes: expected, then measured."""
        if self.history:
            trained, tested = (
                self.history[-1][key] for key in ("train_seconds", f"{self._split}_seconds")
            )
        else:
            trained = _EVALUATION_STEPS * self.batches.train_size
            tested = self.batches.test_size * (1 + self.config.data.test_flip)
        total = trained + tested
        return tested / total if total > 0 else 0.0  # NaN in the metrics of an early version

    def _lr(self, epoch: int, step: int) -> float:
        steps = self.batches.steps_per_epoch
        total = (epoch - 1) * steps + step
        factor = self.config.scheduler.factor(total, steps, self.config.training.epochs)
        return self.config.optimizer.lr * factor

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint; call it at a yield of `run`."""
        seconds = self._seconds
        if self._steps:
            with on_stream(self._stream, self.config.deterministic):
                # an interrupted evaluation will be repeated
                end = self._clock.record() if self._trained is None else self._trained
            if self._stream is not None:
                self._stream.synchronize()  # until all steps are completed
            seconds += self._clock.seconds(self._started, end)
        return {
            "model": self.model.state_dict(),
            "optimizer": self.step.optimizer.state_dict(),
            "best_weights": self._best_weights,
            "history": [metrics.as_json() for metrics in self.history],
            "epoch": {
                "steps": self._steps,
                "sums": self.step.train_sums.sums,
                "metrics": self.step.train_sums.names,
                "seconds": seconds,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`; call it before `run`."""
        with self._peak_memory.turn():
            self.model.load_state_dict(state["model"])
            self.step.refresh_bf16_weights()
            self.step.optimizer.load_state_dict(state["optimizer"])
        self._best_weights = state.get("best_weights", {})  # older checkpoints have none
        evaluated_on = self.config.data.evaluated_on
        self.history = [EpochMetrics.from_json(row, evaluated_on) for row in state["history"]]
        epoch = state["epoch"]
        self._steps, self._seconds = epoch["steps"], epoch["seconds"]
        # older checkpoints have the sums of these two metrics, without their names
        self.step.train_sums.restore(epoch["sums"], epoch.get("metrics", ("loss", "accuracy")))

    @contextmanager
    def kept_weights(self) -> Iterator[None]:
        """Evaluate with the weights that `training.keep` selects, within the block."""
        if not self._best_weights:
            yield
            return
        last = self._copied_weights()
        self.load_weights(self._best_weights)
        try:
            yield
        finally:
            self.load_weights(last)

    def _copied_weights(self) -> dict[str, Tensor]:
        state = self.model.state_dict()
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Replace weights; those that are not given do not change."""
        state = self.model.state_dict()  # with its version, see `inference.load`
        state.update(weights)
        self.model.load_state_dict(state)
        self.step.refresh_bf16_weights()

    def logits(self, images: Tensor) -> Tensor:
        """Compute the logits of normalized images in evaluation mode.

        Shape:
            images `(N, 3, H, W)`, logits `(N, classes)`.
        """
        self.model.eval()
        with on_stream(current_stream(self.compute.device), self.config.deterministic):
            return self.step.logits(images)


def _batch_sizes(images: int, batch_size: int) -> set[int]:
    """Return the batch sizes of an epoch: the usual one and that of the last batch."""
    return {min(batch_size, images), images % batch_size or min(batch_size, images)}


def _run_eagerly(step: StepFn, _name: str, start: int, size: int) -> None:
    step(slice(start, start + size))

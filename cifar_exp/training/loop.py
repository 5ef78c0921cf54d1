"""The training loop, a generator: a driver runs one to its end, or takes turns among several."""

import logging
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cifar_exp.config.identity import run_id
from cifar_exp.config.metrics import METRICS, evaluated_split
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.batches import Batches, DeviceImages
from cifar_exp.models.build import build_model
from cifar_exp.models.dropout import Dropout
from cifar_exp.models.settings import CustomModel
from cifar_exp.out_of_memory import is_out_of_memory
from cifar_exp.training.batch_norm import synchronised
from cifar_exp.training.cuda_graphs import CudaGraphs, Launch, Work
from cifar_exp.training.device import Clock, Compute, current_stream, new_stream, on_stream
from cifar_exp.training.memory import PeakMemory
from cifar_exp.training.process_group import ALONE, ProcessGroup
from cifar_exp.training.progress import EpochMetrics, Progress, has_diverged
from cifar_exp.training.randomness import derived_seed, generator
from cifar_exp.training.step import Step
from cifar_exp.training.throttle import Throttle

_POLL_SECONDS = 1e-4
_SECONDS_BETWEEN_CHECKS = 1.0  # whether the other processes of a run are still there


class Training:
    """A run while it trains: the network, the optimizer and what was measured so far.

    The epoch to train next is `len(history) + 1`; every random choice is derived from
    (seed, purpose, epoch). So these three are all there is to save, and within an epoch its steps
    and their sums.

    Args:
        config: the run's settings.
        images: on the device that `compute` names.
        classes: names of the classes.
        compute: the device and precision to use.
        graphs: whether a GPU replays captured steps; without, the same kernels one by one.
        processes: that train the run together.

    Attributes:
        replays: whether steps are replayed as CUDA graphs, as far as is known before `run`.
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
        images.load(config.data)  # which all runs share, so it is not counted as this run's
        self._peak_memory = PeakMemory(compute.device)
        with self._peak_memory.turn():
            self.batches = Batches(images, config.data)
            # what is trained has been composed, and its code checked then
            weights, trusted = derived_seed(config.seed, "weights"), config.custom_code
            model = build_model(config.model, len(classes), weights, trusted)
            synchronised(model, processes)
            self.model = model.to(compute.device)
            self.step = Step(config, self.model, self.batches, compute, processes)
        self.history: list[EpochMetrics] = []
        self._split = evaluated_split(config.data.evaluated_on)
        self._steps = 0  # done in the epoch that has begun
        self._seconds = 0.0  # that they took before the run was resumed
        self._processes = processes
        self._checked = time.monotonic()
        self._local = isinstance(config.model, CustomModel)
        # what the processes send each other cannot be captured with a step everywhere
        self.replays = graphs and compute.on_gpu and processes.alone
        self._stream = new_stream(compute.device)
        self._clock = Clock(compute.device)
        self._started = self._clock.mark()
        self._pace = Throttle(self._clock, by_time=processes.alone)

    @property
    def diverged(self) -> bool:
        """Whether the loss of the last epoch was not finite, or had exploded."""
        if not self.history:
            return False
        last = self.history[-1]
        evaluated = last[METRICS["loss"].key(self._split)]
        return has_diverged(last["train_loss"], len(self.classes)) or not math.isfinite(evaluated)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.diverged or len(self.history) >= self.config.training.epochs

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.batches.steps_per_epoch * self.config.training.epochs

    @property
    def steps(self) -> int:
        """Steps done so far."""
        return len(self.history) * self.batches.steps_per_epoch + self._steps

    def run(self) -> Iterator[Progress | EpochMetrics]:
        """Train what is left, epoch by epoch, and test after each.

        Yields:
            Progress every few steps, with the steps that the device has done, and the metrics at
            the end of each epoch. The loop can be left, and a checkpoint be taken, at any yield.
        """
        if self._stream is not None:
            torch.cuda.synchronize(self.compute.device)  # what was loaded is there for all streams
        events = self._run()
        try:
            while True:
                # at a yield no setting of this run is left for the next one's turn
                with (
                    on_stream(self._stream, self.config.deterministic),
                    self._peak_memory.turn(),
                ):
                    event = next(events, None)
                if event is None:
                    return
                yield event
        finally:
            # one of several processes has the GPU alone, and what it waits for may never come
            if self._stream is not None and self._processes.alone:
                self._stream.synchronize()  # other runs may get its memory from now on

    def _run(self) -> Iterator[Progress | EpochMetrics]:
        launch: Launch | None = None
        self._pace.begin(self.steps)
        while not self.finished:
            epoch = len(self.history) + 1
            self._started = self._clock.mark()
            self._begin_epoch(epoch)
            if launch is None:
                launch = self._launch()
                self._started = self._clock.mark()
            yield from self._train(epoch, launch)
            trained = self._clock.mark()
            yield from self._test(epoch, launch)
            tested = self._clock.mark()
            while not self._clock.passed(tested):
                yield from self._wait(epoch)
            train_seconds = self._seconds + self._clock.seconds(self._started, trained)
            metrics = self._metrics(epoch, train_seconds, self._clock.seconds(trained, tested))
            self.history.append(metrics)
            self._steps, self._seconds = 0, 0.0
            yield metrics

    def _launch(self) -> Launch:
        """Return what takes the steps of this run: replayed graphs, or kernels one by one."""
        if not self.replays:
            return _at_once
        log = logging.getLogger(f"cifar_exp.{run_id(self.config)}")
        if self._local:  # what it does between its layers may not bear being replayed
            log.warning("model: a custom network trains on a GPU without CUDA graphs")
            self.replays = False
            return _at_once
        try:
            return self._captured()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            torch.cuda.synchronize(self.compute.device)  # raises where no kernel can run any more
            reason = str(error).strip().partition("\n")[0]
            log.warning(
                "the steps cannot be captured as CUDA graphs, so it trains without: %s", reason
            )
            self.replays = False
            return _at_once

    def _captured(self) -> CudaGraphs:
        """Capture every step that the run will take; after this it takes no more memory."""
        graphs = CudaGraphs(self.step.tensors, self.compute.device)
        self.model.train()
        for size in _batch_sizes(self.batches.train_size, self.batches.batch_size):
            graphs.capture(self.step.train, "train", size)
        self.model.eval()
        for size in _batch_sizes(self.batches.test_size, self.batches.test_batch_size):
            graphs.capture(self.step.test, "test", size)
        self._peak_memory.settle()
        return graphs

    def _begin_epoch(self, epoch: int) -> None:
        seed = self.config.seed
        layers = [layer for layer in self.model.modules() if isinstance(layer, Dropout)]
        for number, layer in enumerate(layers):
            purpose = f"dropout {number}" if number else "dropout"
            key, steps = derived_seed(seed, purpose, epoch), self.batches.steps_per_epoch
            layer.start_epoch(key, self._steps, of=steps)
        order, augmentation = (
            generator(seed, "order", epoch),
            generator(seed, "augmentation", epoch),
        )
        self.batches.begin_epoch(order, augmentation)

    def _train(self, epoch: int, launch: Launch) -> Iterator[Progress]:
        self.model.train()
        if self._steps == 0:
            self.step.train_sums.reset()
        size, batch_size = self.batches.train_size, self.batches.batch_size
        for step in range(self._steps, self.batches.steps_per_epoch):
            start = step * batch_size
            self.step.update.set_lr(self._lr(epoch, step))
            self._seed_layers("layers", epoch, step)
            launch(self.step.train, "train", start, min(batch_size, size - start))
            self._steps = step + 1
            yield from self._pause(epoch)
        self.step.train_sums.fetch()

    def _test(self, epoch: int, launch: Launch) -> Iterator[Progress]:
        self.model.eval()
        self.step.test_sums.reset()
        size, batch_size = self.batches.test_size, self.batches.test_batch_size
        for start in range(0, size, batch_size):
            self._seed_layers("layers in testing", epoch, start)
            launch(self.step.test, "test", start, min(batch_size, size - start))
            yield from self._pause(epoch)
        self.step.test_sums.fetch()

    def _seed_layers(self, purpose: str, epoch: int, step: int) -> None:
        """Let what layers of the user's own draw depend on the run and the step alone.

        They use PyTorch's global generators, which runs that take turns share, and of which no
        checkpoint has the state.
        """
        if self._local:
            torch.manual_seed(derived_seed(self.config.seed, f"{purpose} {step}", epoch))

    def _pause(self, epoch: int) -> Iterator[Progress]:
        if not self._pace.is_due(self.steps):
            return
        yield self._progress(epoch)
        while self._pace.is_ahead():
            yield from self._wait(epoch)

    def _wait(self, epoch: int) -> Iterator[Progress]:
        if self._processes.alone:
            yield self._progress(epoch)
        elif time.monotonic() - self._checked >= _SECONDS_BETWEEN_CHECKS:
            # no yield: all processes must come to the same ones, however fast they are
            self._checked = time.monotonic()
            self._processes.check()
        time.sleep(_POLL_SECONDS)

    def _metrics(self, epoch: int, train_seconds: float, test_seconds: float) -> EpochMetrics:
        trained = self.step.train_sums.means(self.batches.train_size)
        tested = self.step.test_sums.means(self.batches.test_size)
        if has_diverged(trained["loss"], len(self.classes)):
            tested = dict.fromkeys(tested, math.nan)  # NaN logits would count as class 0
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

    def _progress(self, epoch: int) -> Progress:
        # by the steps that are done, not only handed over, it is measured how many runs pay
        return Progress(epoch, self._pace.done(), self.total_steps)

    def _lr(self, epoch: int, step: int) -> float:
        steps = self.batches.steps_per_epoch
        place = (epoch - 1) * steps + step
        factor = self.config.scheduler.factor(place, steps, self.config.training.epochs)
        return self.config.optimizer.lr * factor

    def state_dict(self) -> dict[str, Any]:
        """Return all that a checkpoint needs, taken at a yield of `run`."""
        seconds = self._seconds
        if self._steps:
            with on_stream(self._stream, self.config.deterministic):
                now = self._clock.mark()
            if self._stream is not None:
                self._stream.synchronize()  # until the steps so far are done
            seconds += self._clock.seconds(self._started, now)
        return {
            "model": self.model.state_dict(),
            "optimizer": self.step.update.state_dict(),
            "history": [metrics.as_json() for metrics in self.history],
            "epoch": {
                "steps": self._steps,
                "sums": self.step.train_sums.sums,
                "metrics": self.step.train_sums.names,
                "seconds": seconds,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was taken; before `run` is called."""
        self.model.load_state_dict(state["model"])
        self.step.weights_have_changed()
        self.step.update.load_state_dict(state["optimizer"])
        on = self.config.data.evaluated_on
        self.history = [EpochMetrics.from_json(row, on) for row in state["history"]]
        epoch = state["epoch"]
        self._steps, self._seconds = epoch["steps"], epoch["seconds"]
        # checkpoints from before metrics could be chosen have these two
        self.step.train_sums.restore(epoch["sums"], epoch.get("metrics", ("loss", "accuracy")))

    def logits(self, images: Tensor) -> Tensor:
        """Return what the network makes of normalised images, as it is tested.

        Shape:
            images `(N, 3, H, W)`, result `(N, classes)`.
        """
        self.model.eval()
        with on_stream(current_stream(self.compute.device), self.config.deterministic):
            return self.step.logits(images)


def _batch_sizes(images: int, batch_size: int) -> set[int]:
    """Return the size of all batches but the last, and that of the last."""
    return {min(batch_size, images), images % batch_size or min(batch_size, images)}


def _at_once(work: Work, _name: str, start: int, size: int) -> None:
    work(slice(start, start + size))

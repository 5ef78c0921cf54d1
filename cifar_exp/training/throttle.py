"""Pauses of the training loop, which also limit how far it runs ahead of a GPU."""

import time
from collections import deque

from cifar_exp.training.device import Clock, Timestamp

# The caller can show progress, stop or switch runs after this number of steps, or this time.
_STEPS_BETWEEN_PAUSES = 10
_SECONDS_BETWEEN_PAUSES = 0.1
# Number of blocks of steps that may be enqueued on a GPU: enough to keep it busy.
_BLOCKS_AHEAD = 3


class Throttle:
    """Divides the steps of a run into blocks with a pause after each.

    Args:
        clock: clock of the run's device.
        by_time: whether a block may end after 0.1 s instead of 10 steps.
    """

    def __init__(self, clock: Clock, by_time: bool = True) -> None:
        self._by_time = by_time
        self._clock = clock
        self._ahead: deque[tuple[Timestamp, int]] = deque()  # end of each block, steps so far
        self._done = 0
        self._steps = 0
        self._paused = time.monotonic()

    def begin(self, steps: int) -> None:
        """Start or resume a run. Args: steps: number of completed steps, at least 0."""
        self._done = steps

    def is_due(self, steps: int) -> bool:
        """Count a training or evaluation step, and return whether a pause follows it.

        Args:
            steps: number of training steps enqueued so far, at least 1.
        """
        self._steps += 1
        now = time.monotonic()
        timed_out = self._by_time and now - self._paused >= _SECONDS_BETWEEN_PAUSES
        if self._steps < _STEPS_BETWEEN_PAUSES and not timed_out:
            return False
        self._steps, self._paused = 0, now
        self._ahead.append((self._clock.record(), steps))
        return True

    def is_ahead(self) -> bool:
        """Return whether enough blocks are enqueued, so that the pause must continue."""
        self._update()
        return len(self._ahead) > _BLOCKS_AHEAD

    def done(self) -> int:
        """Return the number of training steps that the device has completed."""
        self._update()
        return self._done

    def _update(self) -> None:
        while self._ahead and self._clock.passed(self._ahead[0][0]):
            self._done = self._ahead.popleft()[1]

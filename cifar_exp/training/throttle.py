"""When the loop lets its driver act, and how far it runs ahead of a GPU."""

import time
from collections import deque

from cifar_exp.training.device import Clock, Mark

# After so many steps, or so long, the driver may show progress, stop, or turn to another run.
_STEPS_BETWEEN_PAUSES = 10
_SECONDS_BETWEEN_PAUSES = 0.1
# So many of these blocks are handed to a GPU ahead of what it has done: enough to keep it busy.
_BLOCKS_AHEAD = 3


class Throttle:
    """Divides the steps of a run into blocks, with a pause after each.

    Args:
        clock: of the run's device.
        by_time: whether a block of long steps may have fewer of them.
    """

    def __init__(self, clock: Clock, by_time: bool = True) -> None:
        self._by_time = by_time
        self._clock = clock
        self._ahead: deque[tuple[Mark, int]] = deque()  # with the steps up to there
        self._done = 0
        self._steps = 0
        self._paused = time.monotonic()

    def begin(self, steps: int) -> None:
        """Start where a run was resumed. Args: steps: that are done, at least 0."""
        self._done = steps

    def is_due(self, steps: int) -> bool:
        """Count a batch of training or testing, and return whether a pause is due after it.

        Args:
            steps: of training that the device has been given so far, at least 1.
        """
        self._steps += 1
        now = time.monotonic()
        takes_long = self._by_time and now - self._paused >= _SECONDS_BETWEEN_PAUSES
        if self._steps < _STEPS_BETWEEN_PAUSES and not takes_long:
            return False
        self._steps, self._paused = 0, now
        self._ahead.append((self._clock.mark(), steps))
        return True

    def is_ahead(self) -> bool:
        """Return whether the device has enough to do, so that the pause must last longer."""
        self._look()
        return len(self._ahead) > _BLOCKS_AHEAD

    def done(self) -> int:
        """Return how many steps of training the device has done, as far as is known."""
        self._look()
        return self._done

    def _look(self) -> None:
        while self._ahead and self._clock.passed(self._ahead[0][0]):
            self._done = self._ahead.popleft()[1]

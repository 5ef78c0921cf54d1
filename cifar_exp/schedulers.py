"""Learning-rate schedules as pure functions of the epoch or step, so that resuming needs no state.

Each equals PyTorch's scheduler of the same name (the tests compare them), stepped as it is meant
to be: once an epoch, but `onecycle` once a step.
"""

import math
from bisect import bisect_right
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cifar_exp.sections import Section


class SchedulerSection(Section):
    """Settings of a schedule.

    Attributes:
        depends_on_length: whether a rate depends on how many epochs are trained. Otherwise a
            complete run can be continued with more epochs.
    """

    depends_on_length: ClassVar[bool]

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """Return the factor on `optimizer.lr` for one step.

        Args:
            step: counted from 0 over the whole run.
            steps_per_epoch: at least 1.
            epochs: of the whole run, at least 1.

        Returns:
            A factor in [0, 1].
        """
        raise NotImplementedError


class MultiStep(SchedulerSection):
    """The rate is multiplied by gamma when each milestone is reached."""

    depends_on_length = False
    name: Literal["multistep"] = "multistep"
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (75, 150), description="epochs after which the rate falls"
    )
    gamma: float = Field(0.5, gt=0, le=1, description="factor at each milestone")

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See the base class. Source: the article and PyTorch's MultiStepLR."""
        return self.gamma ** bisect_right(sorted(self.milestones), step // steps_per_epoch)


class Constant(SchedulerSection):
    """The rate never changes."""

    depends_on_length = False
    name: Literal["constant"] = "constant"

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See the base class."""
        return 1.0


class Cosine(SchedulerSection):
    """Half a cosine from the rate to a final share of it. Source: Loshchilov and Hutter, 2017."""

    depends_on_length = True
    name: Literal["cosine"] = "cosine"
    final_factor: float = Field(0.0, ge=0, le=1, description="share of the rate left at the end")

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See the base class."""
        return _cosine(1.0, self.final_factor, step // steps_per_epoch / epochs)


class OneCycle(SchedulerSection):
    """Up to the rate and down again, changed at every step. Source: Smith and Topin, 2018."""

    depends_on_length = True
    name: Literal["onecycle"] = "onecycle"
    warmup_fraction: float = Field(0.3, gt=0, lt=1, description="share of the steps going up")
    initial_divisor: float = Field(25.0, ge=1, description="the first rate is the peak over this")
    final_divisor: float = Field(10_000.0, ge=1, description="the last is the first over this")

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See the base class.

        With the cosine form and defaults of PyTorch's OneCycleLR, but the momentum stays as it is:
        a study of the rate should change nothing else.
        """
        last = steps_per_epoch * epochs - 1
        first = 1 / self.initial_divisor
        # the step of the highest rate
        peak = max(self.warmup_fraction * (last + 1) - 1, 1e-9)
        if step <= peak:
            return _cosine(first, 1.0, step / peak)
        end = first / self.final_divisor
        return _cosine(1.0, end, (step - peak) / max(last - peak, 1e-9))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


Scheduler = MultiStep | Constant | Cosine | OneCycle

"""Learning-rate schedules as functions of the step, so that resuming needs no state.

Each equals PyTorch's scheduler of the same name, stepped once per epoch, or once per step for
`onecycle`.
"""

import math
from bisect import bisect_right
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cifar_exp.sections import Section


class SchedulerSection(Section):
    """Settings of a schedule.

    Attributes:
        depends_on_length: whether learning rates depend on the number of epochs. If not, a
            complete run can be continued with more epochs.
    """

    depends_on_length: ClassVar[bool]

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """Return the factor of `optimizer.lr` for a step.

        Args:
            step: step of the run, counted from 0.
            steps_per_epoch: number of steps per epoch, at least 1.
            epochs: number of epochs of the run, at least 1.

        Returns:
            A factor in [0, 1].
        """
        raise NotImplementedError


class MultiStep(SchedulerSection):
    """Multiply the learning rate by gamma at each milestone."""

    depends_on_length = False
    name: Literal["multistep"] = "multistep"
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (75, 150), description="epochs after which the learning rate decays"
    )
    gamma: float = Field(0.5, gt=0, le=1, description="decay factor at each milestone")

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See the base class. Source: the article and PyTorch's MultiStepLR."""
        return self.gamma ** bisect_right(sorted(self.milestones), step // steps_per_epoch)


class Constant(SchedulerSection):
    """Keep the learning rate constant."""

    depends_on_length = False
    name: Literal["constant"] = "constant"

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See the base class."""
        return 1.0


class Cosine(SchedulerSection):
    """Cosine annealing. Source: Loshchilov and Hutter, 2017."""

    depends_on_length = True
    name: Literal["cosine"] = "cosine"
    final_factor: float = Field(
        0.0, ge=0, le=1, description="final learning rate as a fraction of lr"
    )

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See the base class."""
        return _cosine(1.0, self.final_factor, step // steps_per_epoch / epochs)


class OneCycle(SchedulerSection):
    """1cycle policy, stepped once per step. Source: Smith and Topin, 2018."""

    depends_on_length = True
    name: Literal["onecycle"] = "onecycle"
    warmup_fraction: float = Field(
        0.3, gt=0, lt=1, description="fraction of the steps with an increasing learning rate"
    )
    initial_divisor: float = Field(
        25.0, ge=1, description="initial learning rate is lr / initial_divisor"
    )
    final_divisor: float = Field(
        10_000.0, ge=1, description="final learning rate is the initial one / final_divisor"
    )

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See the base class.

        Annealing and defaults are those of PyTorch's OneCycleLR, but momentum is not cycled, so
        that a study of the learning rate changes nothing else.
        """
        last = steps_per_epoch * epochs - 1
        first = 1 / self.initial_divisor
        peak = max(self.warmup_fraction * (last + 1) - 1, 1e-9)
        if step <= peak:
            return _cosine(first, 1.0, step / peak)
        end = first / self.final_divisor
        return _cosine(1.0, end, (step - peak) / max(last - peak, 1e-9))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


Scheduler = MultiStep | Constant | Cosine | OneCycle

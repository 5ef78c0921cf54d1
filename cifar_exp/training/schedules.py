"""Learning-rate schedules as pure functions of the epoch or step, so that resuming needs no state.

Each equals PyTorch's scheduler of the same name (the tests compare them), stepped as it is meant
to be: once an epoch, but `onecycle` once a step.
"""

import math
from bisect import bisect_right

from cifar_exp.config.schema import Constant, Cosine, MultiStep, OneCycle, Scheduler


def lr_factor(config: Scheduler, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return the factor on `optimizer.lr` for one step.

    Args:
        config: which schedule and its settings.
        step: counted from 0 over the whole run.
        steps_per_epoch: at least 1.
        epochs: of the whole run, at least 1.

    Returns:
        A factor in [0, 1].

    Source: the article and PyTorch's MultiStepLR; Loshchilov and Hutter, 2017 (cosine); Smith and
    Topin, 2018 (one cycle, with the cosine form and defaults of PyTorch's OneCycleLR, but the
    momentum stays as it is: a study of the rate should change nothing else).
    """
    epoch = step // steps_per_epoch
    match config:
        case Constant():
            return 1.0
        case MultiStep():
            return config.gamma ** bisect_right(sorted(config.milestones), epoch)
        case Cosine():
            return _cosine(1.0, config.final_factor, epoch / epochs)
        case OneCycle():
            return _one_cycle(config, step, steps_per_epoch * epochs)


def _one_cycle(config: OneCycle, step: int, steps: int) -> float:
    first = 1 / config.initial_divisor
    peak = max(config.warmup_fraction * steps - 1, 1e-9)  # the step of the highest rate
    if step <= peak:
        return _cosine(first, 1.0, step / peak)
    return _cosine(1.0, first / config.final_divisor, (step - peak) / max(steps - 1 - peak, 1e-9))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

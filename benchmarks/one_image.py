"""Section `epochs` on a GPU: steps of one image, where launching kernels costs most."""

from collections.abc import Callable, Iterator

from bench import Bench
from measure import Table, at_least, in_turn, ratios, seconds_of, spread

from cifar_exp.training.loop import Training
from cifar_exp.training.progress import EpochMetrics

_GOAL_REPLAYED = 5.0
_STEPS_PER_TURN = 400


def steps_of_one_image(bench: Bench) -> Table:
    """Measure steps of both loops, ours with and without CUDA graphs."""
    steps, turns = bench.times(_STEPS_PER_TURN, 20), bench.times(5)
    data = bench.data(2 * steps * (turns + 1), bench.times(100, 10), batch_size=1)
    config = bench.config(data, bench.width(1.0))
    article = bench.article(config)
    ours = {
        "eager": bench.training(config, graphs=False),
        "replayed": bench.training(config),
    }
    actions = {"article": _step_seconds(bench, article.train_steps(), steps)}
    for name, training in ours.items():
        actions[name] = _step_seconds(bench, _steps(training), steps)
    measured = in_turn(actions, turns)
    rows = []
    for name, other, goal in (
        ("eager", "article", None),
        ("replayed", "article", None),
        ("replayed", "eager", _GOAL_REPLAYED),
    ):
        gains = ratios(measured[other], measured[name])
        rows.append(
            {
                "step": name,
                "against": other,
                "its step, ms": spread(measured[other], 1000),
                "ours, ms": spread(measured[name], 1000),
                "times as fast": spread(gains),
                "n": str(turns),
                **(at_least(goal, gains) if goal else {"goal": "", "met": ""}),
            }
        )
    return Table(
        "One run: steps of one image",
        f"VGG16 at width 1, batch 1; {turns} turns of {steps} steps each, after a warm-up turn. "
        "Eager: kernels are launched one by one. Replayed: as one CUDA graph.",
        rows,
        [{"step": name, "seconds_per_step": seconds} for name, seconds in measured.items()],
    )


def _steps(training: Training) -> Iterator[int]:
    """Yield the number of steps since the previous event, during the first epoch."""
    before = 0
    for event in training.run():
        if isinstance(event, EpochMetrics):
            return
        yield event.steps - before
        before = event.steps


def _step_seconds(bench: Bench, steps: Iterator[int], count: int) -> Callable[[], float]:
    """Return an action that takes at least `count` steps and returns the seconds per step."""

    def action() -> float:
        done = 0

        def take_steps() -> None:
            nonlocal done
            while done < count:
                done += next(steps)

        seconds = seconds_of(take_steps, bench.device)
        return seconds / done

    return action

"""The order of the runs of a sweep."""

from cifar_exp.config.schema import RunConfig, Training
from cifar_exp.data.settings import Synthetic
from cifar_exp.models.settings import Model
from cifar_exp.schedulers import Constant, Cosine
from cifar_exp.sweeps.run_queue import RunQueue


def run(epochs: int = 10, batch_size: int = 64, **changes) -> RunConfig:
    data = Synthetic(batch_size=batch_size)
    return RunConfig(data=data, training=Training(epochs=epochs), **changes)


def handed_out(queue: RunQueue) -> list[int]:
    numbers = []
    while task := queue.next():
        numbers.append(task.run)
    return numbers


def test_the_longest_run_starts_first_and_small_steps_take_long_on_a_gpu() -> None:
    configs = [
        run(epochs=10, seed=0),
        run(epochs=30, seed=1),
        run(epochs=10, batch_size=1, seed=2),  # many small steps
        run(epochs=30, seed=3, model=Model(width=0.125)),
    ]
    assert handed_out(RunQueue(configs, on_gpu=True)) == [2, 1, 3, 0]
    assert handed_out(RunQueue(configs)) == [1, 2, 0, 3]


def test_interrupted_runs_come_before_all_others() -> None:
    configs = [run(epochs=30), run(epochs=10, seed=1)]
    assert handed_out(RunQueue(configs, interrupted=[1])) == [1, 0]


def test_a_run_that_begins_another_waits_until_the_other_has_passed_its_end() -> None:
    queue = RunQueue([run(epochs=10), run(epochs=100)])
    task = queue.next()
    assert task is not None
    assert (task.run, task.prefix_runs) == (1, (0,))
    queue.passed(1, epoch=9)
    assert queue.next() is None
    queue.passed(1, epoch=10)
    assert handed_out(queue) == [0]
    assert not queue.done


def test_a_run_whose_longer_one_fails_is_trained_by_itself() -> None:
    queue = RunQueue([run(epochs=10), run(epochs=100)])
    assert handed_out(queue) == [1]
    queue.ended(1)
    assert handed_out(queue) == [0]


def test_of_three_lengths_both_shorter_ones_are_taken_from_the_longest() -> None:
    configs = [run(epochs=5, scheduler=Constant()), run(epochs=10, scheduler=Constant())]
    queue = RunQueue([*configs, run(epochs=20, scheduler=Constant())])
    task = queue.next()
    assert task is not None
    assert (task.run, task.prefix_runs) == (2, (0, 1))
    assert queue.next() is None


def test_a_schedule_that_knows_its_end_has_no_beginnings() -> None:
    configs = [run(epochs=10, scheduler=Cosine()), run(epochs=100, scheduler=Cosine())]
    assert handed_out(RunQueue(configs)) == [1, 0]

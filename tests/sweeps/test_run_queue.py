"""The order of the runs of a sweep."""

from cifar_exp.config.schema import RunConfig, Training
from cifar_exp.data.settings import Synthetic
from cifar_exp.models.settings import Model
from cifar_exp.sweeps.run_queue import RunQueue


def run(epochs: int = 10, batch_size: int = 64, **changes) -> RunConfig:
    data = Synthetic(batch_size=batch_size)
    return RunConfig(data=data, training=Training(epochs=epochs), **changes)


def order(queue: RunQueue) -> list[int]:
    runs = []
    while task := queue.next():
        runs.append(task.run)
    return runs


def test_the_longest_run_is_first_and_small_batches_are_slow_on_a_gpu() -> None:
    configs = [
        run(epochs=10, seed=0),
        run(epochs=30, seed=1),
        run(epochs=10, batch_size=1, seed=2),  # many steps with small batches
        run(epochs=30, seed=3, model=Model(width=0.125)),
    ]
    assert order(RunQueue(configs, {}, on_gpu=True)) == [2, 1, 3, 0]
    assert order(RunQueue(configs, {})) == [1, 2, 0, 3]


def test_a_run_of_another_process_is_not_sent_again_before_that_process_has_ended_it() -> None:
    queue = RunQueue([run(seed=0), run(seed=1)], {})
    assert queue.next() is not None
    queue.postpone(0)
    queue.resume_postponed(lambda _: False)
    assert order(queue) == [1]
    assert not queue.done
    queue.resume_postponed(lambda _: True)
    assert order(queue) == [0]


def test_interrupted_runs_are_first() -> None:
    configs = [run(epochs=30), run(epochs=10, seed=1)]
    assert order(RunQueue(configs, {}, interrupted=[1])) == [1, 0]


def test_a_run_that_equals_the_first_epochs_of_another_waits_for_these_epochs() -> None:
    queue = RunQueue([run(epochs=10), run(epochs=100)], {1: [0]})
    task = queue.next()
    assert task is not None
    assert (task.run, task.prefix_runs) == (1, (0,))
    queue.passed(1, epoch=9)
    assert queue.next() is None
    queue.passed(1, epoch=10)
    assert order(queue) == [0]
    assert not queue.done


def test_a_run_is_trained_by_itself_if_the_longer_run_fails() -> None:
    queue = RunQueue([run(epochs=10), run(epochs=100)], {1: [0]})
    assert order(queue) == [1]
    assert queue.ended(1) == [0]
    assert order(queue) == [0]


def test_shorter_runs_are_released_shortest_last_as_the_longer_run_passes_them() -> None:
    queue = RunQueue([run(epochs=n + 1) for n in range(4)], {3: [2, 1, 0]})
    task = queue.next()
    assert task is not None
    assert (task.run, task.prefix_runs) == (3, (0, 1, 2))
    assert queue.passed(3, epoch=2) == [0, 1]
    assert order(queue) == [1, 0]

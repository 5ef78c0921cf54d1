"""How many runs a GPU gets, with a GPU made of numbers."""

from cifar_exp.sweeps.gpu_concurrency import ConcurrencyLimit

GIB = 2**30
STEP_SECONDS = 0.01  # of every run, alone


class Gpu:
    """Runs of 1 GiB each; n of them do `speed[n]` seconds of work alone in a second."""

    def __init__(self, speed: list[float], free_bytes: int = 100 * GIB, limit: int | None = None):
        self.speed = speed
        self.now = 0.0
        self.free_bytes = free_bytes
        self.packing = ConcurrencyLimit(limit, lambda: self.free_bytes, lambda: self.now)
        self.steps: dict[int, float] = {}

    def admit(self) -> None:
        run = max(self.steps, default=0) + 1
        self.packing.admit(run)
        self.free_bytes -= GIB
        self.steps[run] = 0

    def end(self, run: int) -> None:
        del self.steps[run]
        self.free_bytes += GIB
        self.packing.ended(run)

    def work(self, seconds: float) -> int:
        """Go on, with a new run whenever one is wanted; return how many there are."""
        until = self.now + seconds
        while self.now < until:
            if self.packing.wants_more():
                self.admit()
            turns = self.packing.turns()
            self.now += 0.1
            for run in turns:
                self.steps[run] += 0.1 * self.speed[len(turns)] / len(turns) / STEP_SECONDS
                self.packing.heard(run, int(self.steps[run]))
        return len(self.steps)


def test_runs_are_added_as_long_as_one_more_makes_all_of_them_faster() -> None:
    #            0  1    2    3    4     5
    gpu = Gpu([0.0, 1.0, 1.7, 2.2, 2.25, 2.2])
    # the fourth brings 2 %, less than the 5 % that a run must bring
    assert gpu.work(60) == 4
    gpu.end(1)
    assert gpu.work(60) == 3


def test_a_device_that_gains_nothing_goes_back_to_one_run() -> None:
    gpu = Gpu([0.0, 1.0, 1.0, 1.0])
    assert gpu.work(60) == 2
    gpu.end(1)
    assert gpu.work(60) == 1


def test_memory_limits_the_number_where_speed_does_not() -> None:
    gpu = Gpu([float(n) for n in range(20)], free_bytes=int(4.2 * GIB))
    # a fourth would leave 0.2 GiB; another wants 1.3 times what the largest took
    assert gpu.work(60) == 3


def test_a_number_that_was_asked_for_is_kept_from_the_first_step() -> None:
    gpu = Gpu([1.0] * 10, limit=3)
    assert gpu.work(0.5) == 3
    gpu.end(2)
    assert gpu.work(0.5) == 3


def test_a_new_run_is_measured_while_the_others_wait() -> None:
    gpu = Gpu([float(n) for n in range(20)])
    gpu.work(5)
    while not gpu.packing.wants_more():
        gpu.work(0.1)
    gpu.admit()
    assert gpu.packing.turns() == [max(gpu.steps)]

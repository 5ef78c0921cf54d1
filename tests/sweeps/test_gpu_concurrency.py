"""The number of concurrent runs on a simulated GPU."""

from cifar_exp.sweeps.gpu_concurrency import ConcurrencyLimit

GIB = 2**30
STEP_SECONDS = 0.01  # of each run alone


class Gpu:
    """A GPU on which each run uses 1 GiB, and `n` runs have the throughput `throughputs[n]`."""

    def __init__(
        self, throughputs: list[float], free_bytes: int = 100 * GIB, limit: int | None = None
    ) -> None:
        self.throughputs = throughputs
        self.now = 0.0
        self.free_bytes = free_bytes
        self.limit = ConcurrencyLimit(limit, lambda: self.free_bytes, lambda: self.now)
        self.steps: dict[int, float] = {}
        self.pauses = (0.0, 0.0)  # seconds from one pause of all runs to the next, and its length

    def start_run(self) -> None:
        run = max(self.steps, default=0) + 1
        self.limit.add(run)
        self.free_bytes -= GIB
        self.steps[run] = 0

    def end(self, run: int) -> None:
        del self.steps[run]
        self.free_bytes += GIB
        self.limit.remove(run)

    def train(self, seconds: float) -> int:
        """Train for some time, with as many runs as the limit accepts, and return their number."""
        until = self.now + seconds
        while self.now < until:
            if self.limit.accepts_run():
                self.start_run()
            active = self.limit.active()
            self.now += 0.1
            every, pause = self.pauses
            if every and self.now % every < pause:  # a run is evaluated or saved
                continue
            for run in active:
                self.steps[run] += 0.1 * self.throughputs[len(active)] / len(active) / STEP_SECONDS
                self.limit.record(run, int(self.steps[run]))
        return len(self.steps)


def test_runs_are_added_while_one_more_raises_the_throughput() -> None:
    #            0  1    2    3    4     5
    gpu = Gpu([0.0, 1.0, 1.7, 2.2, 2.25, 2.2])
    # the fourth run adds 2 %, less than the required 5 %
    assert gpu.train(60) == 4
    gpu.end(1)
    assert gpu.train(60) == 3


def test_a_device_without_a_gain_returns_to_one_run() -> None:
    gpu = Gpu([0.0, 1.0, 1.0, 1.0])
    assert gpu.train(60) == 2
    gpu.end(1)
    assert gpu.train(60) == 1


def test_a_gain_is_found_although_runs_wait_while_others_are_evaluated_and_saved() -> None:
    # on an H100: two runs of VGG16 with batches of 512, epochs of 1.1 s, checkpoints of 0.45 s
    gpu = Gpu([0.0, 1.0, 1.18, 1.2])
    gpu.pauses = (2.2, 0.45)
    assert gpu.train(60) == 3
    gpu.end(1)
    assert gpu.train(60) == 2


def test_memory_limits_the_number_of_runs() -> None:
    gpu = Gpu([float(n) for n in range(20)], free_bytes=int(4.2 * GIB))
    # 1.2 GiB are left, and one more run requires 1.3 GiB
    assert gpu.train(60) == 3


def test_a_fixed_number_of_runs_is_used_from_the_first_step() -> None:
    gpu = Gpu([1.0] * 10, limit=3)
    assert gpu.train(0.5) == 3
    gpu.end(2)
    assert gpu.train(0.5) == 3


def test_a_new_run_is_measured_while_the_others_wait() -> None:
    gpu = Gpu([float(n) for n in range(20)])
    gpu.train(5)
    while not gpu.limit.accepts_run():
        gpu.train(0.1)
    gpu.start_run()
    assert gpu.limit.active() == [max(gpu.steps)]

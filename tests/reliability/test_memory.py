"""Out of memory: the error is reported, the run is retried alone, and its memory is freed."""

import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.conftest import ROOT, TINY, CommandLine, read_state
from tests.reliability.faults import TWO_AT_ONCE, workers_of
from tests.reliability.hold import LONGEST_WAIT_SECONDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits address space")
# Added to the memory of the imports; a step with 6000 images uses 1.4 GB.
ROOM_BYTES = 850_000_000
STEPS = 20
BIG = (*TINY, "data.train_size=6000", "epochs=1", "model.width=0.125", "optimizer=sgd")
REASON = "out of memory with data.batch_size=6000 and vgg11 of width 0.125. Choose a smaller"


AFTER_IMPORTS = "import cifar_exp.runs.train_one; print(open('/proc/self/status').read())"
AFTER_A_RUN = """
import runpy, sys
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(open("/proc/self/status").read())
"""


def limited(number: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (number, resource.RLIM_INFINITY))


def measured(train: CommandLine, code: str, field: str, *words: str) -> int:
    """Run code that prints /proc/self/status. Returns a field of it in bytes."""
    code = code.replace("sys.argv[0]", repr(str(ROOT / "train.py")))
    environment = train.environment | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=train.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


@pytest.fixture
def limit(train: CommandLine) -> int:
    """An address space limit in bytes; batches of 64 images fit, batches of 6000 do not."""
    return measured(train, AFTER_IMPORTS, "VmSize") + ROOM_BYTES


@pytest.mark.slow
def test_a_run_that_does_not_fit_reports_its_batch_size(train: CommandLine, limit: int) -> None:
    process = train.start(*BIG, "batch_size=6000", preexec_fn=limited(limit))
    out, err = process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert process.returncode == 1
    assert REASON in err
    assert "Traceback" not in out + err
    assert len(err.strip().splitlines()) <= 2
    state = read_state(train.only_run)
    assert state["status"] == "failed"
    assert state["reason"].startswith(REASON)
    assert "Traceback" in (train.only_run / "train.log").read_text()


@pytest.mark.slow
@pytest.mark.integration
def test_a_run_that_does_not_fit_is_retried_alone_and_then_fails(
    train: CommandLine, limit: int
) -> None:
    sweep = ("-m", *BIG, "data.batch_size=64,6000", TWO_AT_ONCE)
    process = train.start(*sweep, preexec_fn=limited(limit))
    out, err = process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert process.returncode == 1, out + err
    assert f"batch_size=6000: {REASON}" in out
    assert "It is retried alone after the other runs." in out
    assert f"[2/2] batch_size=6000: failed: {REASON}" in out
    assert "Traceback" not in out + err
    states = {read_state(run)["status"] for run in train.runs.iterdir()}
    assert states == {"complete", "failed"}


@pytest.mark.slow
def test_a_run_that_fits_alone_completes(train: CommandLine, limit: int) -> None:
    sweep = ("-m", *BIG, "data.batch_size=64,6000", TWO_AT_ONCE)
    lines = []
    with train.start(*sweep, stderr=subprocess.STDOUT, preexec_fn=limited(limit)) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if "retried alone" in line:  # remove the limit
                for worker in workers_of(process):
                    free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                    resource.prlimit(worker, resource.RLIMIT_AS, free)
    assert process.returncode == 0, lines
    assert any("It is retried alone after the other runs." in line for line in lines)
    assert {read_state(run)["status"] for run in train.runs.iterdir()} == {"complete"}


FAIL_AND_COUNT = """
import gc, resource, sys
import torch
from cifar_exp.config.schema import Paths, RunConfig, Training
from cifar_exp.data.settings import Synthetic
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Sgd
from cifar_exp.runs.runner import Runner
from cifar_exp.errors import UserError

gc.disable()  # so that the collector frees nothing
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), resource.RLIM_INFINITY))
runner = Runner(threads=1)
config = RunConfig(
    data=Synthetic(train_size=6000, test_size=80, batch_size=6000),
    model=Model(name="vgg11", width=0.125),
    optimizer=Sgd(),
    training=Training(epochs=1),
    device="cpu",
)
try:
    for _ in runner.run(config):
        pass
except UserError as error:
    print(error)
parameters = [t for t in gc.get_objects() if isinstance(t, torch.nn.Parameter)]
print("parameters left:", len(parameters))
"""


def test_the_tensors_of_a_failed_run_are_freed_immediately(train: CommandLine, limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAIL_AND_COUNT, str(limit)],
        cwd=train.folder,
        env=train.environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert REASON in done.stdout, done.stderr
    assert "parameters left: 0" in done.stdout


@pytest.mark.slow
def test_at_every_memory_limit_a_run_completes_or_fails_with_two_lines(
    train: CommandLine, new_folder: Callable[[str], CommandLine]
) -> None:
    words = (*BIG, "data.train_size=2000", "batch_size=2000")
    lowest = measured(train, AFTER_IMPORTS, "VmSize")
    highest = measured(train, AFTER_A_RUN, "VmPeak", *words)
    statuses = []
    for step in range(STEPS + 1):
        limited_run = new_folder(str(step))
        number = lowest + (highest - lowest) * step // STEPS
        process = limited_run.start(*words, preexec_fn=limited(number))
        out, err = process.communicate(timeout=LONGEST_WAIT_SECONDS)
        details = f"{number - lowest} bytes above the imports: {process.returncode}\n{out}{err}"
        assert "Traceback" not in out + err, details
        runs = list(limited_run.runs.glob("*/run.json"))
        if process.returncode == 0:
            assert read_state(runs[0].parent)["status"] == "complete", details
        else:
            assert process.returncode == 1, details
            # OpenBLAS ends the process if it cannot allocate its buffers
            assert "out of memory" in err or "OpenBLAS" in err, details
            if "OpenBLAS" not in err:
                assert len(err.strip().splitlines()) <= 2, details
                assert {read_state(run.parent)["status"] for run in runs} <= {"failed"}, details
        statuses.append(process.returncode)
    assert set(statuses) == {0, 1}

"""Out of memory: told with what to do, repeated alone, and freed before the next run."""

import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from cifar_exp.selftest.workspace import workers_of
from tests.conftest import ROOT, CommandLine, read_state
from tests.reliability.faults import SHORT, TWO_AT_ONCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits address space")
# PyTorch takes 3.3 GB of addresses; a step of 6000 images of this network 1.4 GB more.
LIMIT_BYTES = int(4.15e9)
BIG = (*SHORT, "data.train_size=6000", "epochs=1", "model.width=0.125", "optimizer=sgd")
REASON = "out of memory with data.batch_size=6000 and vgg11 of width 0.125; choose a smaller"


def limited(number: int = LIMIT_BYTES) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (number, resource.RLIM_INFINITY))


@pytest.mark.slow
def test_a_run_that_does_not_fit_says_so_with_its_batch_size(train: CommandLine) -> None:
    process = train.start(*BIG, "batch_size=6000", preexec_fn=limited())
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert REASON in err
    assert "Traceback" not in out + err
    assert len(err.strip().splitlines()) <= 2
    state = read_state(train.only_run)
    assert state["status"] == "failed"
    assert state["reason"].startswith(REASON)
    assert "Traceback" in (train.only_run / "train.log").read_text()


def test_a_run_that_did_not_fit_beside_others_is_repeated_alone_and_then_has_failed(
    train: CommandLine,
) -> None:
    sweep = ("-m", *BIG, "data.batch_size=64,6000", TWO_AT_ONCE)
    process = train.start(*sweep, preexec_fn=limited())
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, out + err
    assert f"batch_size=6000: {REASON}" in out
    assert "it is repeated alone after the others" in out
    assert f"[2/2] batch_size=6000: failed: {REASON}" in out
    assert "Traceback" not in out + err
    states = {read_state(run)["status"] for run in train.runs.iterdir()}
    assert states == {"complete", "failed"}


@pytest.mark.slow
def test_a_run_that_fits_when_it_is_alone_is_complete(train: CommandLine) -> None:
    sweep = ("-m", *BIG, "data.batch_size=64,6000", TWO_AT_ONCE)
    said = []
    with train.start(*sweep, stderr=subprocess.STDOUT, preexec_fn=limited()) as process:
        assert process.stdout
        for line in process.stdout:
            said.append(line)
            if "repeated alone" in line:  # there is more memory now
                for worker in workers_of(process):
                    free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                    resource.prlimit(worker, resource.RLIMIT_AS, free)
    assert process.returncode == 0, said
    assert any("it is repeated alone after the others" in line for line in said)
    assert {read_state(run)["status"] for run in train.runs.iterdir()} == {"complete"}


FAIL_AND_COUNT = """
import gc, resource, sys
import torch
from cifar_exp.config.schema import Model, Paths, RunConfig, Sgd, Synthetic, Training
from cifar_exp.runs.runner import Runner
from cifar_exp.errors import UserError

gc.disable()  # so that nothing is freed late
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


def test_the_tensors_of_a_run_that_failed_are_freed_at_once(train: CommandLine) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAIL_AND_COUNT, str(LIMIT_BYTES)],
        cwd=train.folder,
        env=train.environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert REASON in done.stdout, done.stderr
    assert "parameters left: 0" in done.stdout

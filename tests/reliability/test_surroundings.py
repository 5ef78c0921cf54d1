"""Clocks, names, disks, home folders, closed output and narrow terminals."""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_exp.errors import UserError
from cifar_exp.reports.locking import write_locked
from tests.conftest import ROOT, TINY, CommandLine, event_folder, read_state
from tests.made import make_run, make_sweep
from tests.reliability.faults import (
    SHORT,
    STEPS_PER_EPOCH,
    assert_same_run,
    kill_at,
    read_only,
    small_disk,
)

pytestmark = pytest.mark.integration
# A wall clock that is HOURS late, and goes back another hour at every 100th call.
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
static long calls;
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec -= 3600 * (atoi(getenv("HOURS")) + ++calls / 100);
    return status;
}
"""


@pytest.mark.slow
def test_a_clock_that_jumps_backwards_changes_nothing(train: CommandLine, new_folder) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs a C compiler")
    library, source = train.folder / "clock.so", train.folder / "clock.c"
    source.write_text(CLOCK)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    train.environment |= {"LD_PRELOAD": str(library), "HOURS": "0"}
    kill_at(train, *SHORT, step=STEPS_PER_EPOCH + 1)
    train.environment["HOURS"] = "48"
    output = train(*SHORT)
    assert "Traceback" not in output

    plain = new_folder("plain")
    plain(*SHORT)
    assert_same_run(train.only_run, plain.only_run)
    times = re.findall(r"(?m)^(\S+ \S+) INFO", (train.only_run / "train.log").read_text())
    assert times != sorted(times)  # the clock jumped
    assert "ended" in read_state(train.only_run)
    events = EventAccumulator(str(event_folder(train.folder / "logs", train.only_run)))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("loss/test")] == [1, 2, 3, 4]


def test_folders_may_have_any_name_and_sweeps_a_long_name(tmp_path: Path, command_line) -> None:
    folder = tmp_path / 'Студия 研究 🎓 it\'s "here" $HOME & <b>'
    folder.mkdir()
    train = command_line(folder)
    name = ("a-study-with-a-very-long-name-" * 3)[:80]  # the maximum length
    (folder / "conf" / "study").mkdir(parents=True)
    study = {"name": name, "title": "t", "question": "q", "vary": {"lr": [0.01]}, "seeds": [0]}
    (folder / "conf" / "study" / f"{name}.yaml").write_text(yaml.safe_dump(study))
    train("--config-dir", str(folder / "conf"), f"study={name}", *TINY, "epochs=1")
    (report,) = folder.glob("multirun_results/*/report.html")
    assert len(report.parent.name.encode()) <= 91


def test_a_long_name_is_shortened_to_a_number_of_bytes(train: CommandLine) -> None:
    root = train.folder / ("研" * 80)  # 240 bytes; file names have at most 255
    for path in ("train/a", "train/b", "test/a", "test/b"):
        (root / path).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(root / path / "1.png")
    settings = ("model=vgg11", "model.width=0.0625", "epochs=1", "batch_size=2")
    train("data=image_folder", f'data.root="{root.name}"', *settings)
    assert len(train.only_run.name.encode()) <= 91
    assert read_state(train.only_run)["status"] == "complete"


def test_data_may_be_read_only_and_results_and_logs_on_other_disks(train: CommandLine) -> None:
    images = train.folder / "images"
    for number, path in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (images / path).mkdir(parents=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(images / path / "1.png")
    settings = ("model=vgg11", "model.width=0.0625", "epochs=1", "batch_size=2")
    elsewhere = (f"paths.logs={train.folder}/disk/logs", "paths.cache=images/cache")
    with small_disk(train.folder / "disk", 20_000_000), read_only(images):
        said = train("data=image_folder", "data.root=images", *settings, *elsewhere)
        assert "cannot cache the decoded images" in said  # a warning, in a line
        assert "Traceback" not in said
        assert list(train.folder.glob("disk/logs/*/events.out.tfevents.*"))
    assert read_state(train.only_run)["status"] == "complete"


def test_read_only_results_are_refused_with_one_line(train: CommandLine) -> None:
    train(*TINY)
    with read_only(train.folder / "multirun_results"):
        output = train(*TINY, "seed=1", status=1)
    assert "expected a writable folder (Read-only file system)" in output
    assert len(output.strip().splitlines()) <= 2


def test_read_only_results_can_be_read(train: CommandLine) -> None:
    results = train.folder / "multirun_results"
    runs = [make_run(results, seed=seed) for seed in (0, 1, 2)]
    runs[2].write_state(runs[2].read_state() | {"status": "running"})  # without a process
    sweep = str(make_sweep(results, runs))
    train.cifar_exp("report", sweep)
    with read_only(results):
        for command in (
            ["ls"],
            ["table", sweep],
            ["compare", *(str(run.path) for run in runs)],
            ["report", sweep, "--check"],
            ["gc", "--interrupted"],
        ):
            train.cifar_exp(*command)


def test_a_finished_sweep_on_a_read_only_disk_prints_its_table(train: CommandLine) -> None:
    tiny = ["-m", *TINY, "logger=none"]
    sweep = [*tiny, "seed=0,1"]
    train(*sweep)
    results = train.folder / "multirun_results"
    assert not (results / ".hydra").exists()
    (page,) = results.glob("*/report.html")
    with read_only(results):
        output = train(*sweep)
        assert "sweep of 2 runs (2 finished before)" in output
        assert output.splitlines()[-1].endswith("report.html")
        other = train(*tiny, "seed=1,0", status=1)  # the command in sweep.json would change
        single = train(*tiny, "seed=1", status=1)
    page.unlink()
    with read_only(results):
        again = train(*sweep, status=1)
    for text, file in ((other, "sweep.json"), (single, ""), (again, "report.html")):
        assert "test accuracy" in text
        assert "cannot be written (Read-only file system). The runs are kept." in text
        assert file in text.splitlines()[-1]


def test_a_folder_in_place_of_a_file_is_named(train: CommandLine) -> None:
    results = train.folder / "multirun_results"
    sweep = make_sweep(results, [make_run(results, seed=seed) for seed in (0, 1)])
    for name in ("results.csv", "report.html"):
        (sweep / name).mkdir()
        command = "table" if name == "results.csv" else "report"
        output = train.cifar_exp(command, str(sweep), status=int(command == "report"))
        assert f"{name}: cannot be written (expected a file, got a folder; move or" in output
    file = sweep / "sweep.json"
    with pytest.raises(UserError, match=r"sweep\.json: cannot be written \(expected a folder, got"):
        write_locked(file, {"results.csv": b""})


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, pytest.param("/nonexistent", marks=pytest.mark.slow)])
def test_no_home_folder_is_needed(train: CommandLine, home: str | None) -> None:
    del train.environment["HOME"]
    train.environment.pop("XDG_CACHE_HOME", None)
    if home:
        train.environment["HOME"] = home
    output = train(*TINY)
    assert "complete: test accuracy" in output
    assert "Traceback" not in output


def shell(train: CommandLine, text: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; $TRAIN is train.py, and $EXP is `python -m cifar_exp`."""
    environment = train.environment | {
        "PYTHONPATH": str(ROOT),
        "TRAIN": f"{sys.executable} {ROOT / 'train.py'}",
        "EXP": f"{sys.executable} -m cifar_exp",
    }
    return subprocess.run(
        ["bash", "-c", text], cwd=train.folder, env=environment, capture_output=True, text=True
    )


SWEEP = " ".join(("-m", *TINY, "seed=0,1"))
CLOSED_OUTPUTS = (
    f"set -o pipefail; $TRAIN {SWEEP} 2>&1 | true",
    f"$TRAIN {SWEEP} >&-",
    f"$TRAIN {SWEEP} > /dev/full 2> /dev/full",
    f"$TRAIN {SWEEP} >&- 2>&- <&-",
)


@pytest.mark.parametrize(
    "line",
    [
        f"set -o pipefail; $TRAIN {SWEEP} | head -1",
        *(pytest.param(line, marks=pytest.mark.slow) for line in CLOSED_OUTPUTS),
    ],
)
def test_a_sweep_completes_when_its_output_is_closed(train: CommandLine, line: str) -> None:
    done = shell(train, line)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "rror" not in done.stderr
    states = [read_state(run)["status"] for run in train.runs.iterdir()]
    assert states == ["complete", "complete"]
    assert list(train.folder.glob("multirun_results/*/report.html"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "lines",
    [
        ["$EXP table SWEEP | true", "$EXP report SWEEP >&-"],
        pytest.param(
            [
                "$EXP compare multirun_results/runs/* | head -1",
                "$EXP --help | true",
                "$TRAIN --help | head -1",
                "$TRAIN --cfg job | true",
            ],
            marks=pytest.mark.slow,
        ),
    ],
    ids=", ".join,
)
def test_a_closed_pipe_causes_no_traceback(train: CommandLine, lines: list[str]) -> None:
    train("-m", *TINY, "epochs=1", "seed=0,1")
    sweep = next(train.folder.glob("multirun_results/sweep-*"))
    for line in lines:
        text = line.replace("SWEEP", f"'{sweep}'")
        done = shell(train, f"set -o pipefail; {text}")
        assert done.returncode == 0, (line, done.stderr)
        assert done.stderr == "", line


def in_terminal(train: CommandLine, columns: int, *arguments: str) -> str:
    """Run train.py in a terminal with this width, and return its output."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in train.environment.items() if k != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=train.folder,
        env=environment | {"TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    output = b""
    try:
        while chunk := os.read(master, 65536):
            output += chunk
    except OSError:  # the process has ended
        pass
    os.close(master)
    assert process.wait() == 0, output.decode()
    return output.decode()


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80])
def test_progress_bars_fit_the_terminal(train: CommandLine, columns: int) -> None:
    output = in_terminal(train, columns, "-m", *TINY, "seed=0,1")
    frames = re.split(r"[\r\n]", re.sub(r"\x1b\[[A-Z]", "\n", output))
    bars = [frame for frame in frames if "%|" in frame]
    assert bars
    assert max(map(len, bars)) <= columns
    assert "[2/2]" in output
    assert "Traceback" not in output


def test_no_progress_bars_are_shown_without_a_terminal(train: CommandLine) -> None:
    assert "%|" not in train(*TINY)

"""The harmless faults of docs/reliability.md: each is provoked, and what must happen looked for.

Nothing here needs rights, fills a disk or takes memory from others. A function returns what it
has seen, in a few words, or raises `BrokenPromiseError`.
"""

import os
import pickle
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cifar_exp.selftest.workspace import (
    STEPS_PER_EPOCH,
    Hold,
    Workspace,
    begun_anew,
    checkpoints,
    end,
    expect,
    finish,
    flip_a_bit,
    result,
    state,
)

TWO_AT_ONCE = "hydra.launcher.runs_per_device=2"


@dataclass(frozen=True)
class Fault:
    """One line of the table.

    Attributes:
        row: of the matrix in docs/reliability.md.
        what: happens.
        must: happen then.
        provoke: does it, and returns what was seen.
        systems: where it can be provoked, as `sys.platform` begins; () for everywhere.
    """

    row: int
    what: str
    must: str
    provoke: Callable[[Workspace, Workspace], str]
    systems: tuple[str, ...] = ()

    @property
    def can_be_provoked(self) -> bool:
        """Whether this system has what the fault needs."""
        return not self.systems or sys.platform.startswith(self.systems)


def _kills(place: Workspace, whole: Workspace) -> str:
    steps = (STEPS_PER_EPOCH // 2, STEPS_PER_EPOCH + 1, 5 * STEPS_PER_EPOCH)
    for step in steps:
        _killed_at(place, step)
    place.train()
    _expect_same(place, whole)
    left = [path.name for path in place.folder.rglob("*.tmp")]
    expect(not left, f"temporary files are left: {left}")
    return f"{len(steps)} kills, the same bits"


def _signals(place: Workspace, whole: Workspace) -> str:
    # the second step is in an epoch after the one in which the first signal stops the run
    for number, status, step in (
        (signal.SIGINT, 130, STEPS_PER_EPOCH // 2),
        (signal.SIGTERM, 143, 3 * STEPS_PER_EPOCH),
    ):
        with Hold(place.folder, step) as hold:
            process = place.start()
            hold.wait(process)
            process.send_signal(number)
        said = finish(process, status)
        expect("the same command goes on" in said, "it does not say how to go on")
    place.train()
    expect(begun_anew(place.run) == 1, "it was trained from the start again")
    _expect_same(place, whole)
    return "exit status 130 and 143, the same bits"


def _worker_dies(place: Workspace, whole: Workspace) -> str:
    with Hold(place.folder, STEPS_PER_EPOCH + 1) as hold:
        process = place.start("-m", "seed=0,1", TWO_AT_ONCE)
        worker = min(hold.wait(process, processes=2))
        os.kill(worker, signal.SIGKILL)
    said = finish(process)
    expect("its process was killed by SIGKILL" in said, "the death is not told")
    expect("it is repeated alone" in said, "the run is not repeated")
    statuses = [state(run)["status"] for run in place.runs]
    expect(statuses == ["complete", "complete"], f"the runs are {statuses}")
    return "told, repeated, both complete"


def _disk_full(place: Workspace, whole: Workspace) -> str:
    import resource  # not on Windows

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    place.train(status=1, preexec_fn=limit)
    reason = state(place.run)["reason"]
    expect(reason.startswith("disk full"), f"the reason is {reason}")
    place.train()
    _expect_same(place, whole)
    return "reason disk full, then the same bits"


def _damaged_checkpoint(place: Workspace, whole: Workspace) -> str:
    newest = _killed_with_two_checkpoints(place)[-1]
    flip_a_bit(newest)
    said = place.train()
    expect(f"{newest.name} is passed over" in said, "the damage was not noticed")
    _expect_same(place, whole)
    return "noticed, the one before used, the same bits"


def _no_checkpoint_left(place: Workspace, whole: Workspace) -> str:
    for path in _killed_with_two_checkpoints(place):
        path.write_bytes(b"")
    expect("resume=fresh" in place.train(status=1), "it does not say what to do")
    place.train("resume=fresh")
    _expect_same(place, whole)
    return "refused, then started again when asked to"


def _torn_files(place: Workspace, whole: Workspace) -> str:
    _killed_with_two_checkpoints(place)
    for name in ("metrics.jsonl", "run.json"):
        file = place.run / name
        file.write_bytes(file.read_bytes()[:-30])
    place.train()
    expect(begun_anew(place.run) == 1, "it was trained from the start again")
    _expect_same(place, whole)
    return "both repaired, the same bits"


def _two_at_once(place: Workspace, whole: Workspace) -> str:
    sweep = ("-m", "seed=0,1")
    for process in [place.start(*sweep) for _ in range(2)]:
        finish(process)
    times = [begun_anew(run) for run in place.runs]
    expect(times == [1, 1], f"the runs were trained {times} times")
    return "each run trained once"


def _divergence(place: Workspace, whole: Workspace) -> str:
    place.train("-m", "lr=1e3,0.001", "epochs=1")
    statuses = sorted(state(run)["status"] for run in place.runs)
    expect(statuses == ["complete", "diverged"], f"the runs are {statuses}")
    return "diverged, and the sweep went on"


def _closed_output(place: Workspace, whole: Workspace) -> str:
    reading, writing = os.pipe()
    process = place.start(stdout=writing, stderr=writing)
    os.close(writing)
    os.close(reading)  # nobody reads
    process.wait()
    expect(process.returncode == 0, f"exit status {process.returncode}")
    _expect_same(place, whole)
    return "trained to the end"


def _bad_input(place: Workspace, whole: Workspace) -> str:
    mistakes = ("lr=abc", "epochs=0", "optimizer=admm", "lrr=1", "batch_size=641", "seed=[]")
    for mistake in mistakes:
        said = place.train(mistake, status=1)
        expect(len(said.strip().splitlines()) <= 5, f"{mistake}: more than five lines")
    expect(not place.runs, "something was begun")
    return f"{len(mistakes)} mistakes, a line or two each"


def _bad_images(place: Workspace, whole: Workspace) -> str:
    from PIL import Image

    for number, name in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (place.folder / "images" / name).mkdir(parents=True)
        colour = (number, number, number) if name != "test/b" else (1, 1, 1)  # as train/b
        Image.new("RGB", (32, 32), colour).save(place.folder / "images" / name / "1.png")
    (place.folder / "images/train/a/cut.png").write_bytes(b"\x89PNG")
    (place.folder / "images/train/c").mkdir()
    said = place.command("check-data", "images", status=1)
    for told in ("cut.png", "lacks the class 'c'", "the same image in train and test"):
        expect(told in said, f"check-data does not name: {told}")
    return "all named at once, exit status 1"


def _code_in_a_checkpoint(place: Workspace, whole: Workspace) -> str:
    import hashlib
    import json

    newest = _killed_with_two_checkpoints(place)[-1]
    newest.write_bytes(pickle.dumps(_RunsCode()))
    manifest = json.loads(newest.with_suffix(".json").read_text())
    manifest["sha256"] = hashlib.sha256(newest.read_bytes()).hexdigest()
    newest.with_suffix(".json").write_text(json.dumps(manifest))
    place.train()
    expect(not list(place.folder.rglob("it-ran")), "it ran")
    _expect_same(place, whole)
    return "not run, passed over, the same bits"


def _code_in_a_config(place: Workspace, whole: Workspace) -> str:
    theirs = place.folder / "theirs" / "experiment"
    theirs.mkdir(parents=True)
    callback = "{_target_: os.mkdir, path: it-ran}"
    text = f"# @package _global_\nhydra: {{callbacks: {{nice: {callback}}}}}\n"
    (theirs / "nice.yaml").write_text(text)
    said = place.train("--config-dir", "theirs", "experiment=nice", status=1)
    expect(not list(place.folder.rglob("it-ran")), "it ran")
    expect("--allow os.mkdir" in said, "it does not say what to do")
    return "refused, until the name is allowed"


class _RunsCode:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("it-ran",)


def _expect_same(place: Workspace, whole: Workspace) -> None:
    same = result(place.run) == result(whole.run)
    expect(same, "metrics or weights differ from those of a run that was not disturbed")


def _killed_at(place: Workspace, step: int) -> None:
    """Start the run, or let it continue, and kill it at a step."""
    with Hold(place.folder, step) as hold:
        process = place.start()
        hold.wait(process)
        end(process)


def _killed_with_two_checkpoints(place: Workspace) -> list[Path]:
    # a process saves after its first epoch, however fast it trains; after others it may not
    for epochs in (1, 2):
        _killed_at(place, epochs * STEPS_PER_EPOCH + 1)
    return checkpoints(place.run)


FAULTS = (
    Fault(1, "SIGKILL, three times", "the same command ends with the same bits", _kills),
    Fault(2, "Ctrl-C and SIGTERM", "stops, saves, goes on there", _signals, ("linux", "darwin")),
    Fault(3, "a worker process is killed", "its run is repeated", _worker_dies, ("linux",)),
    Fault(5, "no more can be written", "told; goes on later", _disk_full, ("linux", "darwin")),
    Fault(6, "a flipped bit in a checkpoint", "the one before is used", _damaged_checkpoint),
    Fault(6, "no checkpoint left", "starts again when asked to", _no_checkpoint_left),
    Fault(7, "torn metrics.jsonl and run.json", "repaired", _torn_files),
    Fault(8, "the same sweep twice at once", "each run is trained once", _two_at_once),
    Fault(10, "a learning rate of 1000", "diverged; the sweep goes on", _divergence),
    Fault(11, "output that nobody reads", "trains to the end", _closed_output),
    Fault(12, "mistakes in settings", "told in a few lines", _bad_input),
    Fault(13, "bad images", "all named at once", _bad_images),
    Fault(14, "a checkpoint that would run code", "it does not", _code_in_a_checkpoint),
    Fault(14, "a configuration that names code", "it does not run", _code_in_a_config),
)

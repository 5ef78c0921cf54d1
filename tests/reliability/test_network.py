"""No process of a run or a sweep listens on the network."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TINY, CommandLine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]
# The state of listening sockets in each table of /proc/net; 07 is a bound UDP socket.
LISTENING = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}


def family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [
            child for thread in threads for child in (thread / "children").read_text().split()
        ]
    except OSError:  # it has ended
        return
    for child in children:
        yield from family(int(child))


def sockets_of(pid: int) -> set[str]:
    """Return the inodes of the sockets of a process."""
    inodes = set()
    try:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(file)
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
    except OSError:
        pass
    return inodes


def listening(pids: set[int]) -> set[str]:
    """Return the addresses on which processes listen."""
    inodes = {inode for pid in pids for inode in sockets_of(pid)}
    found = set()
    for table, state in LISTENING.items():
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == state and words[9] in inodes:
                found.add(f"{table} {words[1]}")
    return found


def test_listening_sockets_are_found() -> None:
    assert not listening({os.getpid()})
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as one:
            one.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                one.listen()
            assert len(listening({os.getpid()})) == 1


def watch(process: subprocess.Popen[str]) -> tuple[set[str], int]:
    """Watch a process until it ends. Returns all addresses, and the maximum number of processes."""
    found, max_processes = set(), 0
    while process.poll() is None:
        pids = set(family(process.pid))
        max_processes = max(max_processes, len(pids))
        found |= listening(pids)
        time.sleep(0.05)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return found, max_processes


@pytest.mark.slow
def test_a_sweep_with_two_workers_opens_no_port(train: CommandLine) -> None:
    process = train.start("-m", *TINY, "seed=0,1", "hydra.launcher.runs_per_device=2")
    found, processes = watch(process)
    assert not found
    assert processes >= 4  # the sweep, the fork server and two workers


@pytest.mark.slow
def test_a_single_run_opens_no_port(train: CommandLine) -> None:
    process = train.start(*TINY)
    found, _ = watch(process)
    assert not found

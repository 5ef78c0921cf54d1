"""Output and errors of commands."""

import argparse
import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cifar_exp import __main__
from cifar_exp.out_of_memory import TOO_LITTLE_MEMORY
from tests.made import make_run, make_sweep


def test_control_characters_are_replaced_on_standard_output() -> None:
    code = (
        "from cifar_exp.terminal import keep_output; keep_output(); print('a\\x1b[2J\\x9b\\tb\\nc')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    sign = "\N{REPLACEMENT CHARACTER}"
    assert done.stdout == f"a{sign}[2J{sign}\tb\nc\n"


def ended(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """Run a command that raises an error and return its standard error."""

    def fails(_: Any) -> int:
        raise error

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=fails)
    monkeypatch.setattr(__main__, "_parser", lambda: parser)
    monkeypatch.setattr(__main__, "keep_output", lambda: None)
    monkeypatch.setattr(sys, "argv", ["cifar_exp"])
    assert __main__.main() == (130 if isinstance(error, KeyboardInterrupt) else 1)
    return capsys.readouterr().err


def test_ctrl_c_ends_a_command_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(KeyboardInterrupt(), monkeypatch, capsys) == "Interrupted.\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left", "a/b.json"), "disk full: cannot write a/b.json; "),
        (OSError(errno.EEXIST, "File exists", "a"), "a: expected a folder, got a file; choose"),
        (OSError(errno.ENOSPC, "No space left"), "disk full; free some space"),
        (OSError(errno.EROFS, "Read-only file system", "a"), "a: Read-only file system"),
        (ImportError("libtorch.so: failed to map segment from shared object"), TOO_LITTLE_MEMORY),
        (MemoryError(), TOO_LITTLE_MEMORY),
    ],
)
def test_an_error_is_reported_in_one_line(
    error: Exception,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = ended(error, monkeypatch, capsys)
    assert output.startswith(message)
    assert len(output.splitlines()) == 1


def test_an_unexpected_error_has_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyError):
        ended(KeyError("a"), monkeypatch, capsys)


def test_a_table_is_printed_if_it_cannot_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep(tmp_path, [make_run(tmp_path, seed=seed) for seed in (0, 1)])
    (sweep / ".lock").mkdir()  # as on a read-only disk
    monkeypatch.setattr(__main__, "keep_output", lambda: None)
    monkeypatch.setattr(sys, "argv", ["cifar_exp", "table", str(sweep)])
    assert __main__.main() == 0
    output = capsys.readouterr()
    assert "0.5000" in output.out
    assert output.err.startswith("results.csv was not written: ")


def test_workers_start_with_a_long_temporary_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 110)
    folder.mkdir()
    code = """
import tempfile
from multiprocessing import forkserver
from cifar_exp.sweeps.worker_pool import _choose_socket_folder
_choose_socket_folder()
forkserver.ensure_running()
print(tempfile.gettempdir())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{folder}\n"


def test_output_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cifar_exp", "ls", "--results", str(tmp_path)])
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr(sys, "stderr", sys.stderr)  # both are replaced by `keep_output`
        assert __main__.main() == 1
    message = "standard output: cannot be written (No space left on device). The output is incomp"
    assert message in capsys.readouterr().err

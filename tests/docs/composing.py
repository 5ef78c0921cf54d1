"""Compose and check the settings of documented commands in one process, without training."""

import contextlib
import io
import os
import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any


def compose(texts: Sequence[str], folder: Path, problems: Path) -> None:
    """Run commands up to their training, in a separate process.

    Args:
        texts: commands in shell syntax.
        folder: checkout to run them in.
        problems: output file for the failed commands and their output.
    """
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    _do_not_train()
    problems.touch()
    for text in texts:
        program, *words = _words(text)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = _status(program, words)
        if status not in (0, None):
            with problems.open("a") as file:
                file.write(f"{text}\n{printed.getvalue()}\n")


def _words(text: str) -> list[str]:
    """Split a command into words, without shell substitutions, pipes and redirections."""
    plain = re.sub(r"\$\([^)]*\)", "NAME", text)
    words = shlex.split(re.split(r" [|>&]|;", plain)[0], comments=True)
    return words[1:] if words[1] == "train.py" else words[2:]


def _status(program: str, words: Sequence[str]) -> object:
    try:
        if program == "train.py":
            sys.argv = [program, *words]
            runpy.run_path(program, run_name="__main__")
            return 0
        from cifar_exp.__main__ import _parser

        _parser().parse_args(list(words))
    except SystemExit as end:
        return end.code
    return 0


def _do_not_train() -> None:
    from hydra.core.plugins import Plugins

    Plugins.instance()  # reloads the plugins' modules, so patch them afterwards
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    import cifar_exp.runs.train_one
    import cifar_exp.search.forecast
    import cifar_exp.search.search
    import cifar_exp.sweeps.sweep

    def train(*arguments: Any) -> list[None]:
        runs = arguments[0] if isinstance(arguments[0], list) else []
        return [None for _ in runs]

    def split(*arguments: Any, **named: Any) -> list[Any]:
        """Keep only the first and the last run of a sweep."""
        return [[*batch[:1], *batch[1:][-1:]] for batch in split_all(*arguments, **named)]

    split_all = BasicSweeper.split_arguments
    BasicSweeper.split_arguments = staticmethod(split)  # type: ignore[method-assign]
    cifar_exp.runs.train_one.train_one = train  # type: ignore[assignment]
    cifar_exp.sweeps.sweep.run_sweep = train
    cifar_exp.sweeps.sweep.print_forecast = train
    cifar_exp.search.search.run_search = train  # type: ignore[assignment]
    cifar_exp.search.forecast.forecast_search = train  # type: ignore[assignment]
    forkserver.ensure_running = lambda: None  # type: ignore[assignment]

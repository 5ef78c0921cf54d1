"""Commands that are run to their end come from a fork, which saves the seconds of their imports."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.reliability.forked import Forks


class ForkedCommandLine(CommandLine):
    """As `CommandLine`; but what is started and not waited for is still a new process."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        super().__init__(folder)
        self._forks = forks
        self._usual = dict(self.environment)

    def __call__(self, *overrides: str, status: int = 0) -> str:
        if self.environment != self._usual:
            return super().__call__(*overrides, status=status)
        done = self._forks(*overrides, cwd=self.folder, seconds=300)
        assert done.status == status, done.out + done.err
        return done.out + done.err


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as forks:
        yield forks


@pytest.fixture(scope="session")
def command_line(forks: Forks) -> Callable[[Path], CommandLine]:
    return lambda folder: ForkedCommandLine(folder, forks)


@pytest.fixture
def train(tmp_path: Path, command_line: Callable[[Path], CommandLine]) -> CommandLine:
    return command_line(tmp_path)


@pytest.fixture
def new_folder(
    tmp_path: Path, command_line: Callable[[Path], CommandLine]
) -> Callable[[str], CommandLine]:
    def make(name: str) -> CommandLine:
        (tmp_path / name).mkdir()
        return command_line(tmp_path / name)

    return make

"""The launcher in Hydra's own test suite, with tasks that are none of ours."""

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)

from hydra_plugins.cifar_exp.packed_launcher import PackedLauncher

# Hydra's suite runs its tasks as its own older versions did
pytestmark = pytest.mark.filterwarnings(r"ignore:\s*Future Hydra versions:UserWarning")


def test_hydra_finds_the_launcher() -> None:
    names = [plugin.__name__ for plugin in Plugins.instance().discover(Launcher)]
    assert PackedLauncher.__name__ in names


@pytest.mark.parametrize(("launcher_name", "overrides"), [("packed", [])])
class TestLauncher(LauncherTestSuite):
    pass


@pytest.mark.parametrize(
    ("launcher_name", "overrides"),
    [("packed", ["hydra/sweeper=basic", "hydra.sweeper.max_batch_size=2"])],
)
class TestLauncherInBatches(BatchedSweeperTestSuite):
    pass


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["-m", "hydra/launcher=packed"])],
)
class TestLauncherFromTheCommandLine(IntegrationTestSuite):
    pass

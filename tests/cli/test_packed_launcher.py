"""The launcher in Hydra's test suite, whose tasks are not training runs."""

from collections.abc import Iterator

import pytest
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)
from hydra.version import VersionBase
from packaging.version import Version

from cifar_exp.cli.packed_launcher import PackedLauncher
from cifar_exp.errors import UserError

# Hydra's suite runs its tasks as older versions of Hydra did
pytestmark = pytest.mark.filterwarnings(r"ignore:\s*Future Hydra versions:UserWarning")


@pytest.fixture(autouse=True)
def version_base_of_hydras_suite() -> Iterator[None]:
    """Hydra has one version base per process, and its suite expects the oldest."""
    state = Singleton.get_state()
    VersionBase.instance().setbase(Version("1.1"))
    yield
    Singleton.set_state(state)


def test_hydra_finds_the_launcher() -> None:
    names = [plugin.__name__ for plugin in Plugins.instance().discover(Launcher)]
    assert PackedLauncher.__name__ in names


@pytest.mark.parametrize("number", [0, "two", 1.5])
def test_an_invalid_number_of_concurrent_runs_is_refused(number: object) -> None:
    with pytest.raises(UserError) as refused:
        PackedLauncher(number).begin()
    expected = "hydra.launcher.runs_per_device: expected auto or an integer of at least 1"
    assert str(refused.value) == f"{expected}, got {number}"


@pytest.mark.integration
@pytest.mark.parametrize(("launcher_name", "overrides"), [("packed", [])])
class TestLauncher(LauncherTestSuite):
    pass


@pytest.mark.integration
@pytest.mark.parametrize(
    ("launcher_name", "overrides"),
    [("packed", ["hydra/sweeper=basic", "hydra.sweeper.max_batch_size=2"])],
)
class TestLauncherInBatches(BatchedSweeperTestSuite):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["-m", "hydra/launcher=packed"])],
)
class TestLauncherFromTheCommandLine(IntegrationTestSuite):
    pass

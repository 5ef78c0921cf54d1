"""A run with a custom network, whose code is called only if it is allowed."""

import shutil
from pathlib import Path

import pytest

from cifar_exp import load_run
from cifar_exp.errors import UserError
from tests.conftest import ROOT, TINY, CommandLine

pytestmark = pytest.mark.integration

WIDE = [word for word in TINY if not word.startswith("model")]


@pytest.fixture
def run(train: CommandLine) -> Path:
    shutil.copy(ROOT / "docs" / "guide" / "examples" / "my_net.py", train.folder)
    train(*WIDE, "epochs=1", "model._target_=my_net.MyNet", "model.width=0.1")
    return train.only_run


def test_custom_code_is_called_only_if_it_is_allowed(train: CommandLine, run: Path) -> None:
    # prints when it is imported
    (train.folder / "my_net.py").write_text(
        (train.folder / "my_net.py").read_text() + "print('!')\n"
    )
    output = train.cifar_exp("evaluate", str(run), status=1)
    assert output == (
        "model._target_: my_net.MyNet can run any code. If you trust it, add --allow my_net.MyNet\n"
    )
    output = train.cifar_exp("evaluate", str(run), "--allow", "my_net.MyNet")
    assert "The results equal those of the run after epoch 1." in output
    output = train.cifar_exp("export", str(run), "--allow", "my_net.MyNet", "--format", "torch")
    assert "model.pt2: logits differ by at most" in output
    with pytest.raises(UserError, match="can run any code"):
        load_run(run)

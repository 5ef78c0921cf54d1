"""Make the pictures of the README: `python docs/make_images.py` (a minute on two cores)."""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from cifar_exp.data.synthetic import load
from cifar_exp.figures.images import draw_contact_sheet

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"


def main() -> None:
    """Draw the contact sheet, and take curves and predictions from a demo run."""
    IMAGES.mkdir(exist_ok=True)
    dataset = load(train_size=100, test_size=10)
    sheet = draw_contact_sheet(
        dataset.train.images.numpy(), dataset.train.labels.tolist(), dataset.classes
    )
    sheet.savefig(IMAGES / "synthetic.png", dpi=90)
    with TemporaryDirectory() as folder:
        command = [sys.executable, ROOT / "train.py", "experiment=demo", "epochs=10"]
        subprocess.run(command, cwd=folder, check=True)
        (run,) = Path(folder, "multirun_results", "runs").iterdir()
        for name in ("curves.png", "predictions.png"):
            shutil.copy(run / name, IMAGES / name)


if __name__ == "__main__":
    main()

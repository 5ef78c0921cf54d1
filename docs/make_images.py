"""Make the images of docs/images except the loggers' pages: `python -m docs.make_images [FOLDER]`.

Trains the demo and its study (three minutes on two cores) and photographs the report with Chromium.
The runs are kept in FOLDER if one is given; a second call then trains nothing.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import FloatRect, Page, sync_playwright

from cifar_exp.data.synthetic import load
from cifar_exp.figures.images import draw_contact_sheet

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
# Width and margin of the page in pixels: panels side by side, or below each other.
_WIDE, _NARROW = (820, 30), (600, 12)


def main(folder: Path) -> None:
    """Write all images.

    Args:
        folder: folder for the runs; complete ones are used. It is created if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dataset = load(train_size=100, test_size=10)
    sheet = draw_contact_sheet(
        dataset.train.images.numpy(), dataset.train.labels.tolist(), dataset.classes
    )
    sheet.savefig(IMAGES / "synthetic.png", dpi=90)
    _train(folder, "experiment=demo", "epochs=10")
    _train(folder, "experiment=demo", "study=lr", "seed=0,1,2")
    results = folder / "multirun_results"
    (run,) = results.glob("runs/epochs=10,model=*")
    for name in ("curves.png", "predictions.png"):
        shutil.copy(run / name, IMAGES / name)
    (report,) = results.glob("lr-*/report.html")
    with _page(report) as page:
        _photograph_report(page)


def _train(folder: Path, *overrides: str) -> None:
    subprocess.run([sys.executable, ROOT / "train.py", *overrides], cwd=folder, check=True)


@contextmanager
def _page(file: Path) -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as tools:
        # root in a container cannot use the sandbox
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(file.resolve().as_uri())
        yield page
        browser.close()


def _photograph_report(page: Page) -> None:
    top, curves, levels = "h1", "figure >> nth=0", "figure >> nth=2"  # 1: curves of the test images
    _photograph(page, "report", _WIDE, top, f"{curves} >> svg")
    _photograph(page, "report-curves", _WIDE, curves, curves)
    _photograph(page, "report-verdicts", _NARROW, top, "main p.note.screen >> nth=0")
    _photograph(page, "report-levels", _NARROW, levels, levels)


def _photograph(page: Page, name: str, size: tuple[int, int], first: str, last: str) -> None:
    width, margin = size
    page.set_viewport_size({"width": width, "height": 1000})
    boxes = [page.locator(selector).bounding_box() for selector in (first, last)]
    top, bottom = (box for box in boxes if box)
    y, height = top["y"] - 10, bottom["y"] + bottom["height"] - top["y"] + 20
    clip: FloatRect = {"x": margin, "y": y, "width": width - 2 * margin, "height": height}
    image = Image.open(BytesIO(page.screenshot(full_page=True, clip=clip)))
    # a third of the bytes
    image.convert("RGB").quantize(128).save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as folder:
            main(Path(folder))

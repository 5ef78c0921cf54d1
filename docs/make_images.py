"""Make the images of docs/images except the loggers' pages: `python -m docs.make_images [FOLDER]`.

Trains the demo and its study (three minutes on two cores) and photographs the report with Chromium.
The runs are kept in FOLDER if one is given; a second call then trains nothing.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
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
_WIDTH, _MARGIN = 820, 30  # of the page, in pixels


def main(folder: Path) -> None:
    """Write all images.

    Args:
        folder: folder for the runs; complete ones are used.
    """
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
        page = browser.new_page(viewport={"width": _WIDTH, "height": 1000})
        page.goto(file.resolve().as_uri())
        yield page
        browser.close()


def _photograph_report(page: Page) -> None:
    curves, levels = (
        _box(page, f"figure >> nth={i}") for i in (0, 2)
    )  # 1 is the second panel of the curves
    verdicts = _box(page, "main p.note.screen >> nth=0")
    parts = {
        "report": (0.0, _bottom(_box(page, "figure >> nth=0 >> svg"))),
        "report-verdicts": (0.0, _bottom(verdicts)),
        "report-curves": (curves["y"] - 10, _bottom(curves)),
        "report-levels": (levels["y"] - 10, _bottom(levels)),
    }
    for name, (top, bottom) in parts.items():
        width, height = _WIDTH - 2 * _MARGIN, bottom + 10 - top
        clip: FloatRect = {"x": _MARGIN, "y": top, "width": width, "height": height}
        image = Image.open(BytesIO(page.screenshot(full_page=True, clip=clip)))
        # a third of the bytes
        image.convert("RGB").quantize(128).save(IMAGES / f"{name}.png", optimize=True)


def _box(page: Page, selector: str) -> FloatRect:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box


def _bottom(box: Mapping[str, float]) -> float:
    return box["y"] + box["height"]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as folder:
            main(Path(folder))

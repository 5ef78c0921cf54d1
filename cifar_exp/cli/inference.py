"""The commands for trained networks: predict, evaluate, export."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from cifar_exp.errors import UserError
from cifar_exp.files import refuse_links, shortened
from cifar_exp.paths import PREDICTIONS_FILE, RESULTS
from cifar_exp.terminal import printable

# PyTorch takes seconds, so each command imports it when it is called.

_RESULTS = Path(RESULTS)
_FORMATS = ("torch", "onnx")
_MOST_IN_GRID = 400  # images
_LONGEST_NAME_BYTES = 100
_COMPARED = 250  # images, whose logits an exported file must give


def add_commands(commands: Any) -> None:
    """Add them to a parser. Args: commands: what its `add_subparsers` returned."""
    predict = _command(commands, "predict", "tell what is on pictures of your own", _predict)
    predict.add_argument(
        "images", nargs="*", metavar="IMAGE", help="of any format and size; a folder for all in it"
    )
    predict.add_argument(
        "--grid",
        type=_grid_size,
        metavar="N",
        help="show N test images with labels and predictions",
    )
    evaluate = _command(commands, "evaluate", "measure a network on test images", _evaluate)
    export = _command(commands, "export", "write a network for other programs", _export)
    export.add_argument(
        "--format", choices=_FORMATS, help="torch: torch.export; onnx (default: both)"
    )
    for command, use in ((evaluate, "evaluate"), (export, "compare")):
        command.add_argument(
            "data",
            nargs="*",
            metavar="data.KEY=VALUE",
            help=f"{use} on other images, such as data=image_folder data.root=photos",
        )
    for command in (predict, evaluate):
        command.add_argument(
            "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto"
        )


def _command(commands: Any, name: str, does: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=does)
    parser.add_argument("name", metavar="RUN", help="its folder, its id, or how its name begins")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: in the run's folder")
    parser.add_argument("--results", type=Path, default=_RESULTS, help=f"default: {_RESULTS}")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="NAME", help="code of yours that it names"
    )
    parser.set_defaults(run=run)
    return parser


def _grid_size(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text[:9]) <= _MOST_IN_GRID):
        raise argparse.ArgumentTypeError(f"expected 1 to {_MOST_IN_GRID}")
    return int(text)


def _loaded(arguments: argparse.Namespace, device: str) -> Any:
    from cifar_exp.inference.load import load_run
    from cifar_exp.runs.log import show_warnings

    show_warnings(lambda line: print(printable(line), file=sys.stderr))
    return load_run(arguments.name, device, arguments.allow, arguments.results)  # type: ignore[arg-type]


def _output_folder(arguments: argparse.Namespace, run: Any, name: str) -> Path:
    """Return where files go: what was given, or a folder of the run that no link leads out of."""
    if arguments.out:
        return Path(arguments.out)
    refuse_links(run.path / name, run.path)
    return Path(run.path / name)


def _predict(arguments: argparse.Namespace) -> int:
    if not arguments.images and arguments.grid is None:
        raise UserError("predict: expected images, or --grid N for test images")
    from cifar_exp.inference.predict import predict
    from cifar_exp.inference.saving import write_grid, write_predictions
    from cifar_exp.inference.test_data import data_settings, labelled_images

    run = _loaded(arguments, arguments.device)
    folder = _output_folder(arguments, run, "predictions")
    predictions, unreadable = predict(run, _files(arguments.images))
    if predictions:
        print(printable(write_predictions(folder, run, predictions)))
        print(folder / PREDICTIONS_FILE)
    if arguments.grid is not None:
        images = labelled_images(run, data_settings(run))
        print(write_grid(folder, run, images, arguments.grid))
    for file, reason in unreadable.items():
        print(printable(str(UserError(f"{file}: {reason}"))), file=sys.stderr)
    return int(bool(unreadable))


def _files(names: list[str]) -> list[str]:
    """Return the images that were named, those of a folder in its place."""
    from cifar_exp.data.class_folders import images_in

    files: list[str] = []
    for name in names:
        inner = images_in(name) if Path(name).is_dir() else [name]
        if not inner:
            raise UserError(f"{name}: expected a folder with images, found none")
        files += inner
    return files


def _evaluate(arguments: argparse.Namespace) -> int:
    from cifar_exp.inference.evaluate import difference_from_training, evaluate
    from cifar_exp.inference.saving import write_evaluation
    from cifar_exp.inference.test_data import data_settings, labelled_images

    run = _loaded(arguments, arguments.device)
    config = data_settings(run, arguments.data)
    images = labelled_images(run, config)
    evaluation = evaluate(run, images)
    folder = _output_folder(arguments, run, f"evaluation/{_folder_name(arguments.data)}")
    data = config.data.model_dump(mode="json")
    print(printable(write_evaluation(folder, run, images, evaluation, data)))
    if not arguments.data:
        message = difference_from_training(run, evaluation)
        print(message or "These are the numbers of the run's last epoch.")
    print(folder)
    return 0


def _folder_name(overrides: list[str]) -> str:
    """Return a name for evaluations on other images, made of what was typed."""
    name = re.sub(r"[^\w.,=+-]+", "-", ",".join(overrides))
    return shortened(name, _LONGEST_NAME_BYTES).lstrip(".") or "test"


def _export(arguments: argparse.Namespace) -> int:
    from cifar_exp.inference.export import export
    from cifar_exp.inference.test_data import data_settings, labelled_images

    run = _loaded(arguments, "cpu")
    images = labelled_images(run, data_settings(run, arguments.data)).images[:_COMPARED]
    folder = _output_folder(arguments, run, "export")
    formats = [arguments.format] if arguments.format else _FORMATS
    for file, difference in export(run, images, folder, formats).items():
        print(f"{folder / file}: logits differ by at most {difference:.1e}")
    print(f"{folder / 'export.json'}: input, output and classes; {len(images)} images compared")
    return 0

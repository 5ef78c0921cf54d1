"""The commands for trained networks: predict, evaluate, export."""

import argparse
import glob
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cifar_exp.cli.subcommand import add_command, add_name, add_results, print_problems
from cifar_exp.errors import UserError
from cifar_exp.files import refuse_links, shortened
from cifar_exp.paths import PREDICTIONS_FILE

# PyTorch takes seconds to import, so each command imports it when it is called.

_FORMATS = ("torch", "onnx")
_MOST_IN_GRID = 400  # images
_LONGEST_NAME_BYTES = 100
_COMPARED = 250  # images on which an exported file is compared with the network
_CSV_SUFFIXES = (".csv", ".tsv", ".txt")


def add_commands(commands: Any) -> None:
    """Add the commands to the result of `add_subparsers`."""
    does = "Predict the classes of images with a trained network."
    predict = _command(commands, "predict", does, "d0f285f6f0 photos/cat.jpg", _predict)
    predict.add_argument(
        "images", nargs="*", metavar="IMAGE", help="file, folder or 'pattern'; any format and size"
    )
    predict.add_argument(
        "--csv", type=Path, metavar="FILE", help="write the predictions to this CSV file as well"
    )
    predict.add_argument(
        "--grid",
        type=_grid_size,
        metavar="N",
        help="save a figure of N test images with their classes and predictions",
    )
    does = "Evaluate a trained network on test images."
    evaluate = _command(commands, "evaluate", does, "d0f285f6f0 data.limit_test=200", _evaluate)
    does = "Export a trained network for use without this package."
    export = _command(commands, "export", does, "d0f285f6f0 --format onnx", _export)
    export.add_argument(
        "--format", choices=_FORMATS, help="torch (torch.export) or onnx (default: both)"
    )
    for command, use in ((evaluate, "evaluate"), (export, "verify the files")):
        command.add_argument(
            "data",
            nargs="*",
            metavar="data.KEY=VALUE",
            help=f"{use} on other images, such as data=image_folder data.root=photos",
        )
    for command in (predict, evaluate):
        command.add_argument(
            "--device",
            choices=("auto", "cpu", "cuda"),
            default="auto",
            help="auto: cuda if available (default: auto)",
        )


def _command(
    commands: Any, name: str, does: str, example: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = add_command(commands, name, does, example, run)
    add_name(parser, "name", "RUN")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write files (default: in the run's folder)",
    )
    add_results(parser)
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="NAME",
        help="allow this custom code of the run, such as my_net.MyNet; can be repeated",
    )
    return parser


def _grid_size(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text[:9]) <= _MOST_IN_GRID):
        raise argparse.ArgumentTypeError(f"expected an integer from 1 to {_MOST_IN_GRID}")
    return int(text)


def _loaded(arguments: argparse.Namespace, device: str) -> Any:
    from cifar_exp.inference.load import load_run
    from cifar_exp.runs.log import show_warnings

    show_warnings(lambda line: print_problems([line]))
    return load_run(arguments.name, device, arguments.allow, arguments.results)  # type: ignore[arg-type]


def _output_folder(arguments: argparse.Namespace, run: Any, name: str) -> Path:
    """Return --out, or by default a folder of the run, which must not be a link."""
    if arguments.out:
        return Path(arguments.out)
    refuse_links(run.path / name, run.path)
    return Path(run.path / name)


def _predict(arguments: argparse.Namespace) -> int:
    # an image must not be overwritten: a shell replaces `--csv *.png` by the names of images
    if arguments.csv and arguments.csv.suffix.lower() not in _CSV_SUFFIXES:
        raise UserError(
            f"--csv {arguments.csv}: expected a file name that ends in {', '.join(_CSV_SUFFIXES)}. "
            "Write --csv predictions.csv."
        )
    if not arguments.images and arguments.grid is None:
        raise UserError("predict: expected images, or --grid N for test images")
    from cifar_exp.inference.predict import predict
    from cifar_exp.inference.saving import write_csv, write_grid, write_predictions
    from cifar_exp.inference.test_data import data_settings, labelled_images

    run = _loaded(arguments, arguments.device)
    folder = _output_folder(arguments, run, "predictions")
    predictions, unreadable = predict(run, _files(arguments.images))
    if predictions:
        print(write_predictions(folder, run, predictions))
        print(folder / PREDICTIONS_FILE)
        if arguments.csv:
            write_csv(arguments.csv, run, predictions)
            print(arguments.csv)
    if arguments.grid is not None:
        images = labelled_images(run, data_settings(run))
        print(write_grid(folder, run, images, arguments.grid, run.config.data.evaluated_on))
    print_problems(str(UserError(f"{file}: {reason}")) for file, reason in unreadable.items())
    return int(bool(unreadable))


def _files(names: list[str]) -> list[str]:
    """Return the image files; patterns and folders are replaced by the files they contain."""
    from cifar_exp.data.class_folders import images_in

    files: list[str] = []
    for name in names:
        matches = [name]
        if any(sign in name for sign in "*?[") and not os.path.lexists(name):
            matches = sorted(glob.glob(name, recursive=True))
            if not matches:
                raise UserError(f"{name}: no file matches the pattern. Check the path.")
        found = [
            file
            for match in matches
            for file in (images_in(match) if Path(match).is_dir() else [match])
        ]
        if not found:
            raise UserError(f"{name}: expected a folder with images, found none")
        files += found
    return files


def _evaluate(arguments: argparse.Namespace) -> int:
    from cifar_exp.inference.evaluate import difference_from_training, evaluate
    from cifar_exp.inference.saving import write_evaluation
    from cifar_exp.inference.test_data import data_settings, labelled_images

    run = _loaded(arguments, arguments.device)
    config = data_settings(run, arguments.data)
    images = labelled_images(run, config)
    evaluation = evaluate(run, images)
    name = _folder_name(arguments.data, config.data.evaluated_on)
    folder = _output_folder(arguments, run, f"evaluation/{name}")
    print(write_evaluation(folder, run, images, evaluation, config.data))
    if not arguments.data:
        message = difference_from_training(run, evaluation)
        print(message or f"The results equal those of the run after epoch {run.epoch}.")
    print(folder)
    return 0


def _folder_name(overrides: list[str], split: str) -> str:
    """Return the folder name of an evaluation, unique for its overrides; without any, the split."""
    text = ",".join(overrides)
    name = shortened(re.sub(r"[^\w.,=+-]+", "-", text), _LONGEST_NAME_BYTES).lstrip(".")
    if name != text:
        name += f"-{hashlib.sha256(os.fsencode(text)).hexdigest()[:6]}"
    return name or split


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

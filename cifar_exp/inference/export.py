"""Export a network with its preprocessing to a file for other programs."""

import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cifar_exp.data.batches import normalized
from cifar_exp.errors import UserError
from cifar_exp.files import write_atomically, write_json
from cifar_exp.inference.load import TrainedRun

# Batches of 1, a few and all images are compared, to check that the batch size is dynamic.
_FEW = 3
# Relative to the largest logit; float32 has 7 digits, and kernels differ in their order of sums.
_TOLERANCE = 1e-4
_Network = Callable[[Tensor], Tensor]


class Exported(nn.Module):
    """A network with its preprocessing, in float32.

    Args:
        run: trained run, whose weights are copied to the CPU.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, run: TrainedRun) -> None:
        super().__init__()
        # files cannot store channels-last weights
        network = copy.deepcopy(run.model).to(memory_format=torch.contiguous_format)
        self.network = network.cpu()
        self.test_flip = run.config.data.test_flip
        self.register_buffer("mean", run.mean.cpu())
        self.register_buffer("std", run.std.cpu())

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits. Shape: images uint8 `(N, H, W, 3)`, logits `(N, classes)`."""
        inputs = normalized(images, (self.mean, self.std))
        logits: Tensor = self.network(inputs)
        if self.test_flip:
            logits = (logits + self.network(inputs.flip(3))) / 2
        return logits


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        file: name of the file.
        write: returns the content of the file for a module and example images.
        read: loads a file as a function from images to logits.
    """

    file: str
    write: Callable[[Exported, Tensor], bytes]
    read: Callable[[Path], _Network]


def export(
    run: TrainedRun, images: Tensor, folder: Path, formats: Sequence[str]
) -> dict[str, float]:
    """Export a network, and compare the logits of each file with those of the network.

    Args:
        run: trained run.
        images: uint8 images for the comparison.
        folder: output folder, which also gets an export.json; created if missing.
        formats: keys of `FORMATS`.

    Returns:
        The largest absolute difference of logits by file name.

    Raises:
        UserError: a required package is not installed, PyTorch cannot export the network, or the
            logits differ.

    Shape:
        images `(N, H, W, 3)`.
    """
    if "onnx" in formats:
        _need_onnx()
    original = replace(run, compute=replace(run.compute, precision="fp32"))
    expected = original.logits(images)
    module = Exported(run).eval()
    folder.mkdir(parents=True, exist_ok=True)
    differences = {}
    for form in (FORMATS[name] for name in formats):
        file = folder / form.file
        # PyTorch specializes a batch size of 1
        content = _traced(form, module, images[:1].repeat(_FEW, 1, 1, 1))
        write_atomically(file, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
        differences[form.file] = _difference(form.read(file), images, expected, file)
    write_json(folder / "export.json", _description(run, len(images), differences))
    return differences


def _need_onnx() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"onnx: the package {error.name} is not installed. Install it with "
            "pip install -e '.[onnx]', or use --format torch."
        ) from error


def _traced(form: Format, module: Exported, images: Tensor) -> bytes:
    try:
        return form.write(module, images)
    except Exception as error:  # PyTorch raises many types of errors here
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{form.file}: PyTorch cannot export the network: {reason}\n"
            "In a custom network, use images.shape[0] instead of len(images), which is not traced."
        ) from error


def _difference(network: _Network, images: Tensor, expected: Tensor, file: Path) -> float:
    difference = 0.0
    for count in (1, _FEW, len(images)):
        with torch.no_grad():
            largest = (network(images[:count]) - expected[:count]).abs().max()
        difference = max(difference, float(largest))
    allowed = _TOLERANCE * max(1.0, float(expected.abs().max()))
    if not difference <= allowed:  # also true for NaN
        raise UserError(
            f"{file}: the logits differ from the network's by up to {difference:.2g}, expected at "
            f"most {allowed:.2g}. Do not use the file."
        )
    return difference


def _to_pt2(module: Exported, images: Tensor) -> bytes:
    program = torch.export.export(module, (images,), dynamic_shapes=_dynamic())
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


def _from_pt2(file: Path) -> _Network:
    return cast(_Network, torch.export.load(file).module())


def _to_onnx(module: Exported, images: Tensor) -> bytes:
    program = torch.onnx.export(
        module,
        (images,),
        dynamo=True,
        dynamic_shapes=_dynamic(),
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None  # always with dynamo=True
    return cast(bytes, program.model_proto.SerializeToString())


def _from_onnx(file: Path) -> _Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run


def _dynamic() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("batch")},)


FORMATS = {
    "torch": Format("model.pt2", _to_pt2, _from_pt2),
    "onnx": Format("model.onnx", _to_onnx, _from_onnx),
}


def _description(run: TrainedRun, compared: int, differences: dict[str, float]) -> dict[str, Any]:
    side = run.image_size
    return {
        "run": run.path.name,
        "input": {
            "name": "images",
            "type": "uint8",
            "shape": ["batch", side, side, 3],
            "meaning": "RGB, 0 to 255, rows from top to bottom; rotated according to EXIF and "
            "resized regardless of the aspect ratio, bilinear with antialiasing as in Pillow",
        },
        "output": {
            "name": "logits",
            "type": "float32",
            "shape": ["batch", len(run.classes)],
            "meaning": "softmax over the last dimension gives the class probabilities",
        },
        "classes": list(run.classes),
        "built_in": {
            "divided_by": 255,
            "mean": run.mean.flatten().tolist(),
            "std": run.std.flatten().tolist(),
            "averaged_with_mirror_image": run.config.data.test_flip,
        },
        "compared_images": compared,
        "largest_difference_of_logits": differences,
        "torch": torch.__version__,
    }

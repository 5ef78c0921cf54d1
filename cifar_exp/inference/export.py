"""A network as one file for other programs, with all that happens to an image built in."""

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

# Compared are batches of one image, a few and all, so that their number is known to be free.
_FEW = 3
# Of the largest logit: other kernels add in another order, and float32 has 7 digits.
_TOLERANCE = 1e-4
_Network = Callable[[Tensor], Tensor]


class Exported(nn.Module):
    """A network that takes the bytes of images and answers as the run was tested, in float32.

    Args:
        run: whose network it is; its weights are copied to the CPU.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, run: TrainedRun) -> None:
        super().__init__()
        # to the usual order in memory: files have no other
        network = copy.deepcopy(run.model).to(memory_format=torch.contiguous_format)
        self.network = network.cpu()
        self.flips = run.config.data.test_flip
        self.register_buffer("mean", run.mean.cpu())
        self.register_buffer("std", run.std.cpu())

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits. Shape: images uint8 `(N, H, W, 3)`, logits `(N, classes)`."""
        inputs = normalized(images, (self.mean, self.std))
        logits: Tensor = self.network(inputs)
        if self.flips:
            logits = (logits + self.network(inputs.flip(3))) / 2
        return logits


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        file: its name.
        write: makes the content of a module and images to trace it with.
        read: returns what is in the file as a function of images.
    """

    file: str
    write: Callable[[Exported, Tensor], bytes]
    read: Callable[[Path], _Network]


def export(
    run: TrainedRun, images: Tensor, folder: Path, formats: Sequence[str]
) -> dict[str, float]:
    """Write a network in other formats, read each file again and compare it with the original.

    Args:
        run: that was trained.
        images: real ones, uint8, for the comparison.
        folder: where the files go, with an export.json that describes them; made if need be.
        formats: keys of FORMATS.

    Returns:
        For each file the largest difference between its logits and the original's.

    Raises:
        UserError: the libraries of a format are not installed, PyTorch cannot export the network,
            or the answers differ.

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
        # not of one image, whose number PyTorch takes for a constant
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
            f"onnx: expected the package {error.name}, which is not installed:\n"
            "pip install -e '.[onnx]', or choose --format torch"
        ) from error


def _traced(form: Format, module: Exported, images: Tensor) -> bytes:
    try:
        return form.write(module, images)
    except Exception as error:  # PyTorch raises errors of many kinds for what it cannot trace
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{form.file}: PyTorch cannot export this network: {reason}\n"
            "in a network of your own, images.shape[0] can be traced and len(images) cannot"
        ) from error


def _difference(network: _Network, images: Tensor, expected: Tensor, file: Path) -> float:
    """Compare a file with the original, on one image, some and all. Raises: UserError."""
    found = 0.0
    for count in (1, _FEW, len(images)):
        with torch.no_grad():
            distance = (network(images[:count]) - expected[:count]).abs().max()
        found = max(found, float(distance))
    allowed = _TOLERANCE * max(1.0, float(expected.abs().max()))
    if not found <= allowed:
        raise UserError(
            f"{file}: its logits differ from the network's by up to {found:.2g}, "
            f"expected at most {allowed:.2g}; do not use it"
        )
    return found


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
    assert program is not None  # as it is with dynamo=True
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
            "meaning": "RGB, 0 to 255, rows from top to bottom; turned upright as EXIF says and "
            "resized whatever the aspect, bilinear with antialiasing as Pillow does",
        },
        "output": {
            "name": "logits",
            "type": "float32",
            "shape": ["batch", len(run.classes)],
            "meaning": "a softmax over the last dimension gives the probabilities of the classes",
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

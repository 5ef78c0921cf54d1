"""Exported networks, which compute the logits of the run."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cifar_exp import load_run
from cifar_exp.data.sources import load
from cifar_exp.errors import UserError
from cifar_exp.inference.export import FORMATS, Format, export
from tests.conftest import ROOT
from tests.inference.conftest import Trained

pytestmark = pytest.mark.integration


def test_both_formats_compute_the_logits_of_the_run(trained: Trained, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    run = load_run(trained.run, "cpu")
    test = load(run.config.data, trained.folder).test
    folder = tmp_path / "export"
    differences = export(run, test.images, folder, ["torch", "onnx"])
    assert list(differences) == ["model.pt2", "model.onnx"]
    assert max(differences.values()) < 1e-4
    program = torch.export.load(folder / "model.pt2").module()
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    for count in (1, 7, 60):  # any batch size
        images = test.images[:count]
        expected = run.logits(images).numpy()
        with torch.no_grad():
            found = program(images).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)
        (found,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_inputs_and_outputs_are_described_in_export_json(trained: Trained) -> None:
    output = trained.cifar_exp("export", "epochs=3", "--format", "torch")
    assert "export/model.pt2: logits differ by at most" in output
    content = json.loads((trained.run / "export" / "export.json").read_text())
    assert content["input"]["shape"] == ["batch", 32, 32, 3]
    assert content["input"]["type"] == "uint8"
    assert content["classes"] == trained.read_json("model.json")["classes"]
    assert content["built_in"]["averaged_with_mirror_image"] is True
    assert content["compared_images"] == 60
    assert list(content["largest_difference_of_logits"]) == ["model.pt2"]


def test_a_file_with_other_logits_is_an_error(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run(trained.run, "cpu")
    wrong = Format("file", lambda module, images: b"", lambda file: lambda x: run.logits(x) + 0.01)
    monkeypatch.setitem(FORMATS, "torch", wrong)
    images = load(run.config.data, trained.folder).test.images
    with pytest.raises(UserError, match=r"the logits differ from the network's by up to 0\.01"):
        export(run, images, tmp_path / "export", ["torch"])
    assert not (tmp_path / "export" / "export.json").exists()


def test_a_network_that_cannot_be_exported_is_an_error(trained: Trained, tmp_path: Path) -> None:
    run = load_run(trained.run, "cpu")

    class FixedSize(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return run.model(images.view(len(images), 3, 32, 32))

    images = load(run.config.data, trained.folder).test.images
    with pytest.raises(UserError, match=r"model\.pt2: PyTorch cannot export the network: "):
        export(replace(run, model=FixedSize()), images, tmp_path, ["torch"])


def test_without_onnx_the_message_names_the_command_to_install_it(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    run = load_run(trained.run, "cpu")
    with pytest.raises(UserError, match=r"pip install -e '\.\[onnx\]'"):
        export(run, torch.zeros(1, 32, 32, 3, dtype=torch.uint8), tmp_path / "x", ["torch", "onnx"])
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_snippet_of_the_guide_works_in_the_folder_of_its_commands(
    trained: Trained, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    guide = (ROOT / "docs/guide/trained-models.md").read_text()
    (snippet,) = re.findall(r"(?s)```python\n(import json.*?)```", guide)
    (out,) = re.findall(r"cifar_exp export \S+ --out (\S+)", guide)
    run = load_run(trained.run, "cpu")
    images = load(run.config.data, trained.folder).test.images
    export(run, images, tmp_path / out, ["onnx"])
    os.symlink(ROOT / "docs", tmp_path / "docs")  # the guide runs in the project folder
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in load(run.config.data, trained.folder).classes

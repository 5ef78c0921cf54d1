"""Loading complete runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

import cifar_exp
from cifar_exp import TrainedRun, load_run
from cifar_exp.data.sources import load
from cifar_exp.errors import UserError
from tests.conftest import TINY, CommandLine, read_rows
from tests.inference.conftest import Trained

NAN = float("nan")


def test_importing_the_package_imports_no_pytorch() -> None:
    code = "import cifar_exp, sys; assert 'torch' not in sys.modules, 'torch is there'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_has_only_documented_names() -> None:
    assert cifar_exp.__all__ == ["Run", "Runs", "TrainedRun", "load_run", "load_runs"]
    with pytest.raises(AttributeError, match="nonsense"):
        cifar_exp.nonsense  # noqa: B018


def test_a_run_has_settings_metrics_and_a_network(trained: Trained) -> None:
    run = load_run(trained.run)
    assert isinstance(run, TrainedRun)
    assert run.path == trained.run
    assert run.config.model.width == 0.0625
    assert run.metrics == read_rows(trained.run)
    assert run.state["status"] == "complete"
    assert run.classes[:2] == ("disk", "square")
    assert run.image_size == 32
    assert not run.model.training
    assert run.mean.shape == run.std.shape == (1, 3, 1, 1)


def test_the_network_has_the_results_of_the_last_epoch(trained: Trained) -> None:
    run = load_run(str(trained.run))
    test = load(run.config.data, trained.folder).test
    logits = run.logits(test.images)
    assert logits.shape == (60, 10)
    last = run.metrics[-1]
    accuracy = (logits.argmax(1) == test.labels).double().mean().item()
    assert accuracy == last["test_accuracy"]
    loss = functional.cross_entropy(logits, test.labels).item()
    assert loss == pytest.approx(last["test_loss"], rel=1e-5)  # float32


def test_the_network_takes_normalised_images(trained: Trained) -> None:
    run = load_run(trained.run)
    images = load(run.config.data, trained.folder).test.images[:4]
    inputs = (images.permute(0, 3, 1, 2) / 255 - run.mean) / run.std
    with torch.no_grad():
        both = run.model(inputs) + run.model(inputs.flip(3))  # data.test_flip
    torch.testing.assert_close(both / 2, run.logits(images))


def test_a_run_is_found_by_its_id_or_the_beginning_of_its_name(trained: Trained) -> None:
    name = trained.run.name
    for given in (name, name.rpartition("-")[2][:6], "epochs=3"):
        assert load_run(given, results=trained.results).path == trained.run


def test_a_diverged_run_has_no_network(train: CommandLine) -> None:
    train(*TINY, "optimizer=sgd", "lr=1e9")
    output = train.cifar_exp("evaluate", str(train.only_run), status=1)
    assert output.strip().endswith("the run diverged and has no network.")


@pytest.mark.parametrize("status", ["pending", "failed", "interrupted"])
def test_a_run_that_is_not_complete_is_refused(trained: Trained, status: str) -> None:
    written = "running" if status == "interrupted" else status
    trained.write_json("run.json", trained.read_json("run.json") | {"status": written})
    with pytest.raises(UserError, match=f"the run is {status}. Run its command again"):
        load_run(trained.run)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(trained: Trained, name: str) -> None:
    (trained.run / name).unlink()
    output = trained.cifar_exp("evaluate", "epochs=3", status=1)
    assert f"{name}: file not found" in output
    assert len(output.splitlines()) == 1


MODEL_JSON = {
    "classes": [
        [],
        ["a"],
        "ab",
        ["a", 1],
        ["a", "b", "c"],
        ["x" * 300, "b"],
        [f"c{i}" for i in range(90_000)],
    ],
    "image_size": [0, 10**9, "32", None],
    "normalization": [
        {},
        {"mean": [0, 0], "std": [1, 1, 1]},
        {"mean": [0.0, 0.0, 0.0], "std": [1.0, 0.0, 1.0]},
        {"mean": [0.0, 0.0, NAN], "std": [1.0, 1.0, 1.0]},
        {"mean": [0.0, 0.0, "0"], "std": [1.0, 1.0, 1.0]},
    ],
}


@pytest.mark.parametrize("key", MODEL_JSON)
def test_an_invalid_model_json_is_named(trained: Trained, key: str) -> None:
    trained.delete_sums()
    good = trained.read_json("model.json")
    for value in MODEL_JSON[key]:
        trained.write_json("model.json", good | {key: value})
        with pytest.raises(UserError, match=r"model\.(json|safetensors): "):
            load_run(trained.run)


@pytest.mark.parametrize("content", [b"", b"[", b"null", b"[]", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_damaged_file_is_named(trained: Trained, name: str, content: bytes) -> None:
    trained.delete_sums()
    (trained.run / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        load_run(trained.run)


def test_weights_of_another_network_are_refused_before_memory_is_allocated(
    trained: Trained,
) -> None:
    config = trained.run / "config.yaml"
    text = config.read_text()
    # would have 5 GB of weights
    large = text.replace("width: 0.0625", "width: 8.0").replace("vgg11", "vgg19")
    config.write_text(large)
    assert large.count("vgg19") == text.count("vgg11")
    state = trained.read_json("run.json")
    del state["sha256"], state["run_id"]
    trained.write_json("run.json", state)
    run = trained.run.rename(trained.run.with_name("large"))
    with pytest.raises(UserError, match=r"expected .* of shape .* does not fit the network"):
        load_run(run)


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "not finite", "dtype"])
def test_damaged_weights_are_refused(trained: Trained, change: str) -> None:
    trained.delete_sums()
    file = trained.run / "model.safetensors"
    weights = load_file(file)
    match change:
        case "missing":
            del weights["classifier.bias"]
        case "extra":
            weights["classifier.nonsense"] = torch.zeros(3)
        case "shape":
            weights["classifier.bias"] = torch.zeros(11)
        case "not finite":
            weights["classifier.bias"][0] = NAN
        case "dtype":
            weights["classifier.bias"] = weights["classifier.bias"].half()
    save_file(weights, file)
    with pytest.raises(UserError, match=r"model\.safetensors: "):
        load_run(trained.run)


def test_code_in_settings_is_not_executed(trained: Trained, tmp_path: Path) -> None:
    config = trained.run / "config.yaml"
    called = json.dumps(["touch", str(tmp_path / "ran")])
    code = f"model:\n  _target_: subprocess.run\n  args: {called}\n"
    config.write_text(config.read_text().replace("model:\n", code))
    with pytest.raises(UserError):
        load_run(trained.run)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("change", ["a zeroed page", "another dtype", "swapped names"])
def test_a_changed_network_is_refused(trained: Trained, change: str) -> None:
    file = trained.run / "model.safetensors"
    match change:
        case "a zeroed page":
            content = bytearray(file.read_bytes())
            content[-4096:] = bytes(4096)
            file.write_bytes(content)
        case "another dtype":
            save_file({name: value.half() for name, value in load_file(file).items()}, file)
        case "swapped names":
            model = trained.read_json("model.json")
            model["classes"][:2] = reversed(model["classes"][:2])
            trained.write_json("model.json", model)
            file = trained.run / "model.json"
    with pytest.raises(UserError, match=f"{file.name} does not match its sha256 in run.json"):
        load_run(trained.run)


def test_a_changed_run_is_refused(trained: Trained) -> None:
    metrics = trained.run / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"test_accuracy": 0.', '"test_accuracy": 0.9'))
    with pytest.raises(UserError, match=r"metrics\.jsonl does not match its sha256.*rerun=true"):
        load_run(trained.run)


def test_a_run_without_sha256_sums_is_loaded_with_a_warning(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    trained.delete_sums()
    with caplog.at_level("WARNING"):
        load_run(trained.run)
    assert "no sha256 sums in run.json" in caplog.text


def test_an_epoch_that_was_not_trained_is_refused(trained: Trained) -> None:
    trained.write_json("run.json", trained.read_json("run.json") | {"epoch_kept": 4})
    with pytest.raises(UserError, match=r"epoch_kept in run\.json is an epoch that"):
        load_run(trained.run)


def test_the_network_takes_arrays(trained: Trained) -> None:
    run = load_run(trained.run)
    images = load(run.config.data, trained.folder).test.images[:4]
    array = images.numpy().copy()
    array.flags.writeable = False  # as np.asarray(image) of Pillow is
    assert torch.equal(run.logits(array), run.logits(images))
    mirrored = images.numpy()[:, :, ::-1]
    assert torch.equal(run.logits(mirrored), run.logits(images.flip(2)))

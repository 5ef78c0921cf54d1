"""Training with two processes compared with one process, in float64."""

import multiprocessing
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cifar_exp.config import schema
from cifar_exp.data import synthetic
from cifar_exp.data.batches import DeviceImages
from cifar_exp.data.settings import Synthetic
from cifar_exp.errors import UserError
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Sgd
from cifar_exp.training.batch_norm import convert_sync_batchnorm
from cifar_exp.training.device import Compute
from cifar_exp.training.loop import Training
from cifar_exp.training.process_group import ALONE, ProcessGroup, all_processes
from cifar_exp.training.progress import EpochMetrics
from tests.reliability.hold import LONGEST_WAIT_SECONDS

CPU = Compute(torch.device("cpu"), "fp32", threads=1)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(10, [3, 3, 4]), (2, [0, 1, 1]), (1, [0, 0, 1])],  # some parts are empty
)
def test_the_parts_of_a_batch_cover_it(count: int, sizes: list[int]) -> None:
    batch = slice(5, 5 + count)
    parts = [ProcessGroup(rank, 3).part(batch) for rank in range(3)]
    assert [part.stop - part.start for part in parts] == sizes
    assert [index for part in parts for index in range(*part.indices(99))] == list(range(99)[batch])


def test_a_missing_rank_is_an_error_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    expected = pytest.raises(UserError, match=r"^torchrun: the 2 processes did not connect: .*RANK")
    with expected, all_processes(schema.RunConfig(device="cpu")):
        pass


def test_batch_norm_is_replaced_at_any_depth_and_keeps_its_names() -> None:
    model = nn.Sequential(nn.Sequential(nn.BatchNorm2d(2)), nn.BatchNorm1d(2))
    before = model.state_dict()
    assert convert_sync_batchnorm(model, ALONE) is model
    assert type(model[1]) is nn.BatchNorm1d
    convert_sync_batchnorm(model, ProcessGroup(0, 2))
    assert type(model[1]) is type(model[0][0])
    assert model.state_dict().keys() == before.keys()


def trained_in_float64() -> dict[str, Any] | None:
    """Train two epochs. The last batch has one image, so that one of two processes has none."""
    data = Synthetic(train_size=83, test_size=41, batch_size=41, augment="crop_flip")
    config = schema.RunConfig(
        data=data,
        model=Model(name="vgg11", width=0.0625, dropout=0.5, dropout_in_testing=True),
        optimizer=Sgd(lr=0.01),
        training=schema.Training(epochs=2),
        device="cpu",
    )
    dataset = synthetic.load(83, 41)
    images = DeviceImages(dataset, CPU.device)
    with all_processes(config) as processes:
        torch.set_default_dtype(torch.float64)
        try:
            training = Training(config, images, dataset.classes, CPU, processes=processes)
        finally:
            torch.set_default_dtype(torch.float32)
        normalized = training.batches._normalized
        training.batches._normalized = lambda pixels: normalized(pixels).double()
        metrics = [event for event in training.run() if isinstance(event, EpochMetrics)]
        losses = [loss for epoch in metrics for loss in (epoch["train_loss"], epoch["test_loss"])]
        return {"losses": losses, "weights": training.model.state_dict()}


def save_from(rank: int, port: int, file: Path) -> None:
    import os

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.save(trained_in_float64(), file)


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    """Only the order of sums differs, also with dropout, crops and a batch of one image."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawned = multiprocessing.get_context("spawn")
    files = [tmp_path / f"{rank}.pt" for rank in range(2)]
    processes = [spawned.Process(target=save_from, args=(r, port, files[r])) for r in range(2)]
    for process in processes:
        process.start()
    one = trained_in_float64()
    for process in processes:
        process.join(LONGEST_WAIT_SECONDS)
        assert process.exitcode == 0
    first, second = (torch.load(file) for file in files)
    assert first["losses"] == second["losses"] == pytest.approx(one["losses"], abs=1e-6)
    for name, values in one["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        torch.testing.assert_close(first["weights"][name], values, rtol=1e-9, atol=1e-9)

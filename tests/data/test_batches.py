"""Batches against the same operations on single images."""

from collections.abc import Iterator

import torch

from cifar_exp.data.batches import (
    Batches,
    DeviceImages,
    channel_statistics,
    cutout,
    evaluation_batch_size,
    random_crop,
)
from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.data.settings import Synthetic

CPU = torch.device("cpu")


def numbered(count: int) -> Split:
    """Create distinct images, in which each pixel differs from its neighbours."""
    pixels = torch.arange(32 * 32 * 3).reshape(32, 32, 3)
    images = torch.stack([(pixels * 7 + 31 * i) % 256 for i in range(count)]).to(torch.uint8)
    return Split(images, torch.arange(count))


DATASET = Dataset(numbered(50), numbered(20), tuple("abcdefghij"))


def epoch(augment: str, batch_size: int = 16) -> list[tuple[torch.Tensor, ...]]:
    return list(epochs(Synthetic.model_validate({"augment": augment, "batch_size": batch_size})))


def epochs(config: Synthetic, seed: int = 0) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield the batches of an epoch."""
    batches = Batches(DeviceImages(DATASET, CPU), config)
    batches.begin_epoch(*(torch.Generator().manual_seed(seed + i) for i in range(2)))
    for start in range(0, batches.train_size, config.batch_size):
        yield batches.train_batch(slice(start, start + config.batch_size))


def test_an_epoch_has_each_image_once_with_its_label_and_values_from_0_to_1() -> None:
    batches = epoch("none")
    assert [len(labels) for _, labels in batches] == [
        16,
        16,
        16,
        2,
    ]  # the last batch is not dropped
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert sorted(labels.tolist()) == list(range(50))
    assert labels.tolist() != list(range(50))
    expected = DATASET.train.images[labels].permute(0, 3, 1, 2) / 255
    assert torch.equal(images, expected)
    assert images.dtype == torch.float32


def test_batches_are_channels_last() -> None:
    images, _ = epoch("flip")[0]
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_about_half_of_the_images_are_flipped_and_not_changed_otherwise() -> None:
    flipped = 0
    for images, labels in epoch("flip"):
        originals = DATASET.train.images[labels].permute(0, 3, 1, 2) / 255
        for image, original in zip(images, originals, strict=True):
            is_flipped = torch.equal(image, original.flip(2))
            assert is_flipped or torch.equal(image, original)
            flipped += is_flipped
    assert 12 <= flipped <= 38  # of 50: 25 and almost four standard deviations


def test_a_crop_is_a_window_of_the_zero_padded_image() -> None:
    images = DATASET.train.images[:3]
    shifts = torch.tensor([[4, 4], [0, 8], [8, 0]])
    cropped = random_crop(images, shifts, torch.arange(32))
    padded = torch.zeros(3, 40, 40, 3, dtype=torch.uint8)
    padded[:, 4:36, 4:36] = images
    for i, (top, left) in enumerate(shifts.tolist()):
        assert torch.equal(cropped[i], padded[i, top : top + 32, left : left + 32])
    assert torch.equal(cropped[0], images[0])  # the shift (4, 4) is the original image


def test_flips_and_crops_do_not_change_the_order_of_the_images() -> None:
    plain, both = epoch("none"), epoch("crop_flip")
    for (_, labels), (images, augmented_labels) in zip(plain, both, strict=True):
        assert torch.equal(labels, augmented_labels)
        assert not torch.equal(images, DATASET.train.images[labels].permute(0, 3, 1, 2) / 255)


def test_normalised_channels_have_mean_0_and_standard_deviation_1() -> None:
    config = Synthetic(augment="none", normalize="channels", batch_size=50)
    ((images, _),) = epochs(config)
    for channel in images.unbind(1):
        assert abs(channel.mean().item()) < 1e-5
        assert abs(channel.std(unbiased=False).item() - 1) < 1e-5


def test_images_of_one_colour_do_not_divide_by_zero() -> None:
    gray = Split(
        torch.full((4, 32, 32, 3), 128, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    )
    means, deviations = channel_statistics(gray)
    assert means == [128 / 255] * 3
    assert deviations == [1 / 255] * 3


def test_fewer_large_images_are_evaluated_at_once() -> None:
    # a million pixels, as 64 images of 128 pixels
    sizes = {32: 250, 64: 250, 128: 64, 512: 4, 2000: 1}
    assert {side: evaluation_batch_size(side) for side in sizes} == sizes


def test_test_images_are_in_order_and_not_augmented() -> None:
    config = Synthetic(augment="crop_flip", batch_size=1)
    images, labels = Batches(DeviceImages(DATASET, CPU), config).test_batch(slice(0, 250))
    assert labels.tolist() == list(range(20))
    assert torch.equal(images, DATASET.test.images.permute(0, 3, 1, 2) / 255)


def test_a_tensor_of_indices_selects_the_same_images_as_a_slice() -> None:
    # CUDA graphs use tensors
    batches = Batches(DeviceImages(DATASET, CPU), Synthetic(augment="crop_flip", cutout=8))
    batches.begin_epoch(*(torch.Generator().manual_seed(i) for i in range(2)))
    by_slice = batches.train_batch(slice(16, 32))
    by_tensor = batches.train_batch(torch.tensor(16) + torch.arange(16))
    assert all(torch.equal(one, other) for one, other in zip(by_slice, by_tensor, strict=True))


def test_cutout_zeroes_a_square_that_ends_at_the_border() -> None:
    images = torch.full((2, 32, 32, 3), 9, dtype=torch.uint8)
    cut = cutout(images, torch.tensor([[16, 16], [0, 31]]), side=8, arange=torch.arange(32))
    expected = images.clone()
    expected[0, 12:20, 12:20] = 0
    expected[1, 0:4, 27:32] = 0  # rows -4 to 3, columns 27 to 34
    assert torch.equal(cut, expected)


def test_cutout_does_not_change_the_order_flips_and_crops() -> None:
    plain = list(epochs(Synthetic(augment="crop_flip", batch_size=50)))
    masked = list(epochs(Synthetic(augment="crop_flip", batch_size=50, cutout=8)))
    (images, labels), (cut, same_labels) = plain[0], masked[0]
    assert torch.equal(labels, same_labels)
    kept = cut != 0
    assert torch.equal(images[kept], cut[kept])
    assert 0 < (images != cut).double().mean() <= 8 * 8 / (32 * 32)

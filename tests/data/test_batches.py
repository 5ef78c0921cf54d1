"""Whole-batch operations against the article's image by image."""

import torch

from cifar_exp.config.schema import Synthetic
from cifar_exp.data.batches import Batches, channel_statistics, random_crop
from cifar_exp.data.dataset import Dataset, Split

CPU = torch.device("cpu")


def numbered(count: int) -> Split:
    """Images that can be told apart: every pixel of image i differs from its neighbours."""
    pixels = torch.arange(32 * 32 * 3).reshape(32, 32, 3)
    images = torch.stack([(pixels * 7 + 31 * i) % 256 for i in range(count)]).to(torch.uint8)
    return Split(images, torch.arange(count))


DATASET = Dataset(numbered(50), numbered(20), tuple("abcdefghij"))


def epoch(augment: str, seed: int = 0, batch_size: int = 16) -> list[tuple[torch.Tensor, ...]]:
    config = Synthetic.model_validate({"augment": augment, "batch_size": batch_size})
    generators = [torch.Generator().manual_seed(seed + i) for i in range(2)]
    return list(Batches(DATASET, config, CPU).train(*generators))


def test_every_image_comes_once_with_its_label_and_values_from_0_to_1() -> None:
    batches = epoch("none")
    assert [len(labels) for _, labels in batches] == [16, 16, 16, 2]  # the short one is not dropped
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert sorted(labels.tolist()) == list(range(50))
    assert labels.tolist() != list(range(50))
    expected = DATASET.train.images[labels].permute(0, 3, 1, 2) / 255
    assert torch.equal(images, expected)
    assert images.dtype == torch.float32


def test_batches_are_channels_last() -> None:
    images, _ = epoch("flip")[0]
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_about_half_of_the_images_are_mirrored_and_none_otherwise_changed() -> None:
    mirrored = 0
    for images, labels in epoch("flip"):
        originals = DATASET.train.images[labels].permute(0, 3, 1, 2) / 255
        for image, original in zip(images, originals, strict=True):
            is_mirrored = torch.equal(image, original.flip(2))
            assert is_mirrored or torch.equal(image, original)
            mirrored += is_mirrored
    assert 12 <= mirrored <= 38  # of 50: 25 and almost four standard deviations


def test_a_crop_is_a_window_of_the_image_padded_with_black() -> None:
    images = DATASET.train.images[:3]
    shifts = torch.tensor([[4, 4], [0, 8], [8, 0]])
    cropped = random_crop(images, shifts)
    padded = torch.zeros(3, 40, 40, 3, dtype=torch.uint8)
    padded[:, 4:36, 4:36] = images
    for i, (top, left) in enumerate(shifts.tolist()):
        assert torch.equal(cropped[i], padded[i, top : top + 32, left : left + 32])
    assert torch.equal(cropped[0], images[0])  # no shift in the middle


def test_flips_and_crops_depend_on_their_own_generator_alone() -> None:
    plain, both = epoch("none"), epoch("crop_flip")
    for (_, labels), (images, augmented_labels) in zip(plain, both, strict=True):
        assert torch.equal(labels, augmented_labels)  # the same order
        assert not torch.equal(images, DATASET.train.images[labels].permute(0, 3, 1, 2) / 255)


def test_normalised_channels_have_mean_0_and_deviation_1() -> None:
    config = Synthetic(augment="none", normalize="channels", batch_size=50)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    ((images, _),) = Batches(DATASET, config, CPU).train(*generators)
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


def test_test_images_come_in_order_and_unchanged() -> None:
    config = Synthetic(augment="crop_flip", batch_size=1)
    ((images, labels),) = Batches(DATASET, config, CPU).test()  # not in batches of 1
    assert labels.tolist() == list(range(20))
    assert torch.equal(images, DATASET.test.images.permute(0, 3, 1, 2) / 255)

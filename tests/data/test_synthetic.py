import numpy as np
import torch

from cifar_exp.data import synthetic


def test_the_same_sizes_give_the_same_bits() -> None:
    assert synthetic.load(600, 20).digest() == synthetic.load(600, 20).digest()


def test_the_test_images_do_not_depend_on_the_number_of_training_images() -> None:
    few, many = synthetic.load(10, 50), synthetic.load(1000, 50)
    assert torch.equal(few.test.images, many.test.images)


def test_no_test_image_is_a_training_image() -> None:
    dataset = synthetic.load(500, 500)
    train = {image.numpy().tobytes() for image in dataset.train.images}
    test = {image.numpy().tobytes() for image in dataset.test.images}
    assert len(train | test) == 1000  # no two images are the same either


def test_images_are_bytes_in_rows_of_pixels() -> None:
    dataset = synthetic.load(30, 20)
    assert dataset.train.images.shape == (30, 32, 32, 3)
    assert dataset.train.images.dtype == torch.uint8
    assert dataset.train.images.is_contiguous()
    assert dataset.train.labels.dtype == torch.int64


def test_ten_classes_have_ten_different_words() -> None:
    classes = synthetic.load(10, 10).classes
    assert len(set(classes)) == 10
    assert all(name.isalpha() for name in classes)


def test_labels_are_balanced_and_shuffled() -> None:
    labels = synthetic.load(1004, 10).train.labels
    # 1004 = 10 * 100 + 4: four classes have one more
    assert sorted(labels.bincount().tolist()) == [100] * 6 + [101] * 4
    assert (labels[:100].bincount(minlength=10) > 0).all()
    assert not torch.equal(labels, labels.sort().values)


def test_the_mean_colour_does_not_tell_the_class() -> None:
    # nearest class mean over the three channels; guessing is right in 10 %
    dataset = synthetic.load(2000, 1000)
    train, test = (s.images.double().mean((1, 2)) for s in (dataset.train, dataset.test))
    centres = torch.stack([train[dataset.train.labels == k].mean(0) for k in range(10)])
    guess = torch.cdist(test, centres).argmin(1)
    assert (guess == dataset.test.labels).double().mean() < 0.15


def test_the_outline_tells_the_class_even_to_a_linear_model() -> None:
    # ridge regression on pixels; an empty or mislabelled picture would score 10 %
    dataset = synthetic.load(3000, 1000)
    train, test = (s.images.float().mean(3).flatten(1) for s in (dataset.train, dataset.test))
    centre = train.mean(0)
    train, test = train - centre, test - centre
    targets = torch.nn.functional.one_hot(dataset.train.labels, 10).float()
    system = train.T @ train + 1e6 * torch.eye(1024)
    guess = (test @ torch.linalg.solve(system, train.T @ targets)).argmax(1)
    assert (guess == dataset.test.labels).double().mean() > 0.25


def test_all_shapes_cover_the_same_area() -> None:
    # else the mean brightness would tell them apart; the unit disk covers pi
    axis = np.linspace(-2, 2, 400, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    for name, outline in synthetic.outlines().items():
        area = (outline(x, y) < 0).mean() * 16
        assert abs(area / np.pi - 1) < 0.02, name

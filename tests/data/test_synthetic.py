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
    assert len(train | test) == 1000  # no duplicates


def test_images_are_contiguous_uint8() -> None:
    dataset = synthetic.load(30, 20)
    assert dataset.train.images.shape == (30, 32, 32, 3)
    assert dataset.train.images.dtype == torch.uint8
    assert dataset.train.images.is_contiguous()
    assert dataset.train.labels.dtype == torch.int64


def test_the_ten_class_names_are_different_words() -> None:
    classes = synthetic.load(10, 10).classes
    assert len(set(classes)) == 10
    assert all(name.isalpha() for name in classes)


def test_labels_are_balanced_and_shuffled() -> None:
    labels = synthetic.load(1004, 10).train.labels
    # 1004 = 10 * 100 + 4: four classes have one more
    assert sorted(labels.bincount().tolist()) == [100] * 6 + [101] * 4
    assert (labels[:100].bincount(minlength=10) > 0).all()
    assert not torch.equal(labels, labels.sort().values)


def test_the_mean_colour_does_not_predict_the_class() -> None:
    # nearest class mean of the three channels; chance is 10 %
    dataset = synthetic.load(2000, 1000)
    train, test = (s.images.double().mean((1, 2)) for s in (dataset.train, dataset.test))
    centres = torch.stack([train[dataset.train.labels == k].mean(0) for k in range(10)])
    predicted = torch.cdist(test, centres).argmin(1)
    assert (predicted == dataset.test.labels).double().mean() < 0.15


def test_a_linear_model_of_the_pixels_predicts_the_class_better_than_chance() -> None:
    # ridge regression; chance is 10 %
    dataset = synthetic.load(3000, 1000)
    train, test = (s.images.float().mean(3).flatten(1) for s in (dataset.train, dataset.test))
    centre = train.mean(0)
    train, test = train - centre, test - centre
    targets = torch.nn.functional.one_hot(dataset.train.labels, 10).float()
    system = train.T @ train + 1e6 * torch.eye(1024)
    predicted = (test @ torch.linalg.solve(system, train.T @ targets)).argmax(1)
    assert (predicted == dataset.test.labels).double().mean() > 0.25


def test_all_shapes_cover_the_same_area() -> None:
    # otherwise the mean brightness would distinguish them; the unit disk has the area pi
    axis = np.linspace(-2, 2, 400, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    for name, outline in synthetic.outlines().items():
        area = (outline(x, y) < 0).mean() * 16
        assert abs(area / np.pi - 1) < 0.02, name

"""Images and labels from CIFAR, an image folder, a generator, or custom code."""

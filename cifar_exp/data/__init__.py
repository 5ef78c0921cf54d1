"""Images and labels: CIFAR-10, the user's own folder, or made by a generator."""

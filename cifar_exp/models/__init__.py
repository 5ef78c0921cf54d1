"""Networks: VGG, ResNet18 and custom networks."""

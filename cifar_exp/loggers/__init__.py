"""Loggers: TensorBoard, W&B and Trackio. Their data is never read back."""

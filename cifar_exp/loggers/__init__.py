"""Mirrors of a run for people to look at: TensorBoard, W&B and Trackio. Nothing reads them back."""

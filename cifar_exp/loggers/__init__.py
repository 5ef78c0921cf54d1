"""Loggers: TensorBoard, W&B, Trackio and MLflow. Their data is never read back."""

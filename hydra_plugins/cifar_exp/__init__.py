"""What Hydra finds by itself: the launcher of sweeps."""

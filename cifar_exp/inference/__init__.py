"""Load, evaluate and export trained networks."""

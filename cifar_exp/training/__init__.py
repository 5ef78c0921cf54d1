"""The training loop and its parts: steps, devices, metrics, CUDA graphs and process groups."""

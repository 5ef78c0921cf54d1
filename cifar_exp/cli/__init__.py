"""The command lines: `train.py` with Hydra, and the subcommands of `python -m cifar_exp`."""

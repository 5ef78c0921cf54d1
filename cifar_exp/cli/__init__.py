"""What the command line adds to Hydra, and the subcommands of `python -m cifar_exp`."""

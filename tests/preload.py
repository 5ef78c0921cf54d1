"""What the fork server of tests/processes.py does once, so that no command needs to."""

import gc

from hydra.core.plugins import Plugins

import cifar_exp.cli.command_line  # noqa: F401

Plugins.instance()  # imports every plug-in there is
gc.freeze()  # collections in a command leave out what was imported here, as in a new process

"""Imports that the fork server of tests/processes.py does once for all commands."""

import gc

from hydra.core.plugins import Plugins

import cifar_exp.cli.command_line  # noqa: F401

Plugins.instance()  # imports all plug-ins
gc.freeze()  # garbage collection in a command then skips these objects

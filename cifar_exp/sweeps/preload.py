"""Imported by the fork server of the workers, which ends if an import raises an error."""

from contextlib import suppress

with suppress(Exception):  # the check of the runs imports it again and reports the error
    import cifar_exp.runs.runner  # noqa: F401

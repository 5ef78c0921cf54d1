"""Sweeps: the run queue, the worker processes, and jobs of other launchers."""

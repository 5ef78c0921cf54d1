"""Runs: their folders, checkpoints and status, and the code that trains and resumes them."""

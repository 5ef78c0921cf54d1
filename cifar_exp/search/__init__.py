"""Searches: Optuna chooses the settings of each run, by how the runs before it did."""

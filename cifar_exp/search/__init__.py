"""Searches: Optuna chooses the settings of each run from the results of earlier runs."""

"""Hyperparameter studies of image classifiers: one run, a sweep of runs, and what they show."""

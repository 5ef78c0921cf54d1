"""What a run's settings are, how they are checked, and what makes two runs the same."""

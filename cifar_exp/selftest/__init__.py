"""Real faults on the user's own machine and disk, and whether what is promised holds there."""

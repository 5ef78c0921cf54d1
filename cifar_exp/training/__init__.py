"""How a run is trained: the loop, the step, optimizers, schedules, metrics."""

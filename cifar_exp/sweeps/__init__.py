"""Many runs: the queue, the workers that train them, and jobs of other launchers."""

"""What Hydra finds by itself: the launchers of sweeps and their sweeper."""

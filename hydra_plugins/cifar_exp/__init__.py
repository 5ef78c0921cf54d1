"""The launcher and the sweepers of this project, found by Hydra's scan for plugins."""

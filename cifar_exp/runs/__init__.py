"""A run on disk: its folder, status, checkpoints and mirrors, and the runner that resumes."""

"""What several runs show: sweeps, tables and statistics."""

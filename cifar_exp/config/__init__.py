"""The settings of runs: schema, validation and identity."""

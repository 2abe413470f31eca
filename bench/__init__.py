"""Measurements: each prints a ratio to a named rival in the same run. Machines are noisy; no test depends on a time."""

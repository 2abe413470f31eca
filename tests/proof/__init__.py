"""Runs the proofs of the invariants at full size and writes what came of them: `make proof`."""

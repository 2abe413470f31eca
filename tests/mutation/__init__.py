"""Does a test fail for each thing that could be wrong in the gate? `python -m tests.mutation [TARGET…]`."""

"""Everything that touches the outside: one module for each system, named for what it is to us, not for its library."""

"""Answer extraction and equivalence."""

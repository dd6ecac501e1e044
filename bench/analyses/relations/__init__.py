"""Whether NORMAL's task positions go with how tasks are related."""

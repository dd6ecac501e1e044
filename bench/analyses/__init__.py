"""Studies of the methods themselves."""

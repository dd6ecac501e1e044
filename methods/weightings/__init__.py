"""Ways of weighting tasks: one file each, a pure function and a frozen dataclass of its hyper-parameters."""

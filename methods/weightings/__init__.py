"""Task weightings: one file each, with a pure function and a frozen dataclass of hyper-parameters."""

"""Decoding: source files once into arrays on disk, by processes that need no torch."""

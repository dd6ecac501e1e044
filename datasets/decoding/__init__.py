"""Decoding of source files into arrays on disk, once, by processes that import no torch."""

"""Checks of a real accelerator: its numbers beside the CPU's, its waits, its speed, and a small study on it."""

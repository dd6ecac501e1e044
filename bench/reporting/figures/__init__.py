"""Figures of scores, learning curves and task positions."""

"""Figures of scores, curves and positions."""

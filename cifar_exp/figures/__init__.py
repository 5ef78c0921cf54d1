"""Figures, drawn with Matplotlib from numbers; no other package imports Matplotlib."""

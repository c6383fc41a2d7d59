"""Figures for people: what a candidate ranks, says, costs and looks at."""

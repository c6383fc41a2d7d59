"""Figures, intervals, calibration and thresholds."""

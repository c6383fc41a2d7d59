"""Fit, calibrate, judge and compare."""

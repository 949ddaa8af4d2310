"""Offline: examples to a fitted, calibrated classifier."""

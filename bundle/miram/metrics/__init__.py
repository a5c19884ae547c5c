"""Metrics with intervals over patients, calibration, levels and paired comparisons (numpy only)."""

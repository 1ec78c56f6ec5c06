"""Outlier detectors: one algorithm a file."""

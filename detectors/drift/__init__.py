"""Drift detectors: one algorithm a file."""

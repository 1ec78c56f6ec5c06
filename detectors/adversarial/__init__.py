"""Adversarial detectors: one algorithm a file."""

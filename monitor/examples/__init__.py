"""Runnable examples behind `offpath demo`."""

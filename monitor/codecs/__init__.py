"""Bytes to named tensors: one protocol a file."""

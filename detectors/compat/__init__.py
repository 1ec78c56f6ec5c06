"""Other libraries' detectors behind the protocols of :mod:`detectors.base`."""

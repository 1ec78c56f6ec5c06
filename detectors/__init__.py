"""Statistics on arrays: drift, outlier and adversarial detectors. Pure: no I/O, no event loop, no metrics."""

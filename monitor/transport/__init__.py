"""Sources and publishers: one transport a file, one contract suite over all."""

"""One file for each `offpath` command; each is imported only when it is called."""

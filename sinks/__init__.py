"""Where findings go: metrics, a store, CloudEvents, JSON lines. One destination a file."""

"""What the relay's benchmark is made of: servers to put side by side, load, and meters."""

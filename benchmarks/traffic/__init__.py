"""What the benchmarks start and measure: servers to put side by side, a Kafka broker, load, and meters."""

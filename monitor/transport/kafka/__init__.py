"""Apache Kafka: one source and one publisher over two clients, kafka-python and confluent-kafka."""

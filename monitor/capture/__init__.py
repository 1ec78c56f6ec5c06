"""The sidecar: a relay of bytes (hot path) and a shipper that makes events of the copies."""

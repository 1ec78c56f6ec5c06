"""MurmurHash2, and the partition of a key as Kafka's default partitioner chooses it.

So a key lands on the same partition number of the embedded log and of a Kafka topic of equal width.
Reference: A. Appleby, MurmurHash2 (32 bit); KIP-480 for what Kafka does with keyless records.
"""

from __future__ import annotations

from functools import lru_cache

SEED = 0x9747B28C
_M, _R, _MASK = 0x5BD1E995, 24, 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The 32-bit hash, unsigned.

    >>> murmur2(b"21") - 2**32
    -973932308
    """
    length = len(data)
    whole = length - length % 4
    h = SEED ^ length
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> _R) * _M & _MASK
        h = h * _M & _MASK ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """The partition number of a key, from 0.

    >>> partition_of("income", 1), 0 <= partition_of("income", 6) < 6
    (0, True)
    """
    return (murmur2(key.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF) % partitions

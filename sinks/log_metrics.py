"""What the embedded log holds and lost, read when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sinks.records import Unavailable


class PartitionStats(Protocol):
    """A partition and its offsets, as :meth:`monitor.transport.log.EmbeddedLog.stats` tells them."""

    @property
    def partition(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def dropped(self) -> int: ...


class LogMetrics(Collector):
    """``offpath_log_*``, one series a partition. A log that cannot be read now shows no series."""

    def __init__(self, stats: Callable[[], Iterable[PartitionStats]]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        held = GaugeMetricFamily("offpath_log_records", "Records in the log.", labels=("partition",))
        size = GaugeMetricFamily("offpath_log_bytes", "Bytes of the records in the log.", labels=("partition",))
        dropped = CounterMetricFamily(
            "offpath_log_dropped", "Records that went for want of room before they were judged.", labels=("partition",)
        )
        try:
            for part in self._stats():
                held.add_metric((part.partition,), part.end - part.start)
                size.add_metric((part.partition,), part.bytes)
                dropped.add_metric((part.partition,), part.dropped)
        except (Unavailable, OSError, ValueError):  # the other metrics are still worth a scrape
            pass
        yield from (held, size, dropped)

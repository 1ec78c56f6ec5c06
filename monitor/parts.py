"""What the worker of one partition says of a monitor's window to whoever merges it, and its record.

The value is a line of JSON and, of a window with rows, a compressed block: counts of cells (``uint32`` or ``uint64``),
keys (``uint64``), rows (``float64``), all little-endian. So a window's record has at most ``8 (d + 1)`` bytes a row of
its sample, 4 a cell (8 if one holds more than 2^32 rows), and some hundred more.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from detectors.merging import Summary
from detectors.sample import Sample
from monitor.event_time import ident
from monitor.events import InvalidEvent, Partition, Record
from monitor.windows import Batch
from sinks.base import Position

SUMMARY, PASSED, IDLE = (f"io.offpath.window.{kind}" for kind in ("summary", "passed", "idle"))
"""CloudEvents types: of a window with rows, of the end of one without, and of a partition where nothing comes."""

RESERVE = 2048
"""Bytes of a record beside its arrays: key, headers, and the line."""

LARGEST = 64 * 1024 * 1024
"""Bytes of the arrays of a record, at most; what claims more is not unpacked."""

_NO_ROWS = np.empty((0, 0))


class Part(NamedTuple):
    """Of ``monitor``, in payload ``partition``, all windows up to ``number`` are over; ``batch`` is that one's summary.

    Without a ``batch`` it had no rows, or they were told before. ``idle`` says instead that at that time, in epoch
    seconds, there was nothing to read in the partition and no window open. ``fingerprint`` is that of the monitor's
    settings.
    """

    monitor: str
    fingerprint: str
    partition: Partition
    number: int
    seconds: float
    batch: Batch | None = None
    idle: float | None = None

    @property
    def kind(self) -> str:
        """The CloudEvents type."""
        return SUMMARY if self.batch is not None else PASSED if self.idle is None else IDLE

    @property
    def summary(self) -> Summary:
        """Of a part that has one."""
        assert self.batch is not None
        assert self.batch.summary is not None
        return self.batch.summary


def idle_seconds(seconds: float) -> float:
    """How often a partition in which nothing comes says so, for windows of ``seconds``.

    >>> idle_seconds(300.0), idle_seconds(1.0)
    (10.0, 1.0)
    """
    return min(seconds, 10.0)


def largest_record(columns: int, size: int, cells: int) -> int:
    """Bytes of the record of a window of so many columns and cells, with ``size`` rows in its sample, at most."""
    arrays = 8 * (columns + 1) * size + 4 * cells
    return arrays + arrays // 1000 + RESERVE


def most_rows(columns: int, cells: int, limit: int) -> int:
    """The largest sample whose record has no more than ``limit`` bytes; 0 or less if there is none.

    >>> size = most_rows(12, 1000, 1_000_000)
    >>> size, largest_record(12, size, 1000) <= 1_000_000 < largest_record(12, size + 1, 1000)
    (9547, True)
    """
    return ((limit - RESERVE) * 1000 // 1001 - 4 * cells) // (8 * (columns + 1))


def to_record(part: Part, now: float) -> Record:
    """The part as a CloudEvent keyed by its monitor, published at ``now``; said again it has the same id."""
    told: dict[str, Any] = {name: getattr(part, name) for name in _TOLD}
    value = orjson.dumps(told) if part.batch is None else _packed(told, part.batch)
    place = part.number if part.idle is None else part.idle
    name = "\0".join((part.kind, part.monitor, part.fingerprint, part.partition, repr(place)))
    headers = {
        "ce_specversion": "1.0",
        "ce_id": blake2b(name.encode(), digest_size=16).hexdigest(),
        "ce_source": "offpath",
        "ce_type": part.kind,
        "ce_subject": part.monitor,
        "ce_time": datetime.fromtimestamp(now, tz=timezone.utc).isoformat(),
        "ce_partitionkey": part.monitor,
        "content-type": "application/octet-stream",
    }
    return Record(part.monitor, headers, value, now)


_TOLD = ("monitor", "fingerprint", "partition", "number", "seconds", "idle")


def _packed(told: dict[str, Any], batch: Batch) -> bytes:
    assert batch.summary is not None
    n, (keys, rows), mark, counts = batch.summary
    width = 4 if not len(counts) or counts.max() < 2**32 else 8
    told |= {
        "n": n, "events": batch.events, "time": batch.time, "mark": mark, "cells": len(counts), "width": width,
        "sample": len(keys), "columns": rows.shape[1], "first": tuple(batch.first), "last": tuple(batch.last),
    }  # fmt: skip
    arrays = counts.astype(f"<u{width}"), keys.astype("<u8"), np.ascontiguousarray(rows, dtype="<f8")
    return orjson.dumps(told) + b"\n" + zlib.compress(b"".join(array.tobytes() for array in arrays), 1)


def from_record(record: Record) -> Part:
    """The inverse of :func:`to_record`.

    Raises
    ------
    InvalidEvent : it is no such record.
    """
    try:
        line, _, packed = (record.value or b"").partition(b"\n")
        told = orjson.loads(line)
        part = Part(**{name: told[name] for name in _TOLD})
        _check(part)
        return part._replace(batch=_batch(part, told, packed)) if "n" in told else part
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, zlib.error) as error:
        raise InvalidEvent("invalid_summary", f"no summary of a window: {type(error).__name__}: {error}") from None


def _check(part: Part) -> None:
    texts = part.monitor, part.fingerprint, part.partition
    if not all(isinstance(text, str) and len(text) < 1000 for text in texts):
        raise ValueError("its names are no texts")
    seconds, number = part.seconds, part.number
    if not (isinstance(seconds, float) and 0.0 < seconds < math.inf and isinstance(number, int)):
        raise ValueError("its window is none")
    datetime.fromtimestamp((number + 1) * seconds, tz=timezone.utc)
    if part.idle is not None:
        datetime.fromtimestamp(part.idle, tz=timezone.utc)


def _batch(part: Part, told: Mapping[str, Any], packed: bytes) -> Batch:
    n, cells, width, m, d = (_whole(told[name]) for name in ("n", "cells", "width", "sample", "columns"))
    if width not in (4, 8) or not 0 < m <= n:
        raise ValueError("its sizes do not fit together")
    sizes = cells * width, 8 * m, 8 * m * d
    if sum(sizes) > LARGEST:
        raise ValueError(f"it claims to hold {sum(sizes)} bytes")
    unpacked = zlib.decompressobj().decompress(packed, sum(sizes) + 1)
    if len(unpacked) != sum(sizes):
        raise ValueError(f"it holds {len(unpacked)} bytes or more instead of {sum(sizes)}")
    counts, keys, rows = _arrays(unpacked, sizes, width)
    start = part.number * part.seconds
    summary = Summary(n, Sample(keys, rows.reshape(m, d)), str(told["mark"]), counts)
    first, last = (Position(part.partition, _whole(told[key][1]), _whole(told[key][2])) for key in ("first", "last"))
    events, time = _whole(told["events"]), float(told["time"])
    datetime.fromtimestamp(time, tz=timezone.utc)
    end, name = (part.number + 1) * part.seconds, ident(part.number, part.seconds)
    return Batch(_NO_ROWS, first, last, start, end, time, events, name, summary)


def _arrays(
    data: bytes, sizes: tuple[int, int, int], width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.float64]]:
    a, b = sizes[0], sizes[0] + sizes[1]
    counts = np.frombuffer(data[:a], f"<u{width}").astype(np.int64)
    return counts, np.frombuffer(data[a:b], "<u8").astype(np.uint64), np.frombuffer(data[b:], "<f8").astype(np.float64)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
        raise ValueError(f"{value!r} is no count")
    return value

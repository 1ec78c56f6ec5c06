"""Findings as CloudEvents, with the types that Seldon's consumers filter on.

Source: CloudEvents 1.0; Seldon Core's alibi-detect-server (reply events with ``data`` and ``meta``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from sinks.base import Finding
from sinks.records import Publisher, Record, Rejected

TYPES: Mapping[str, str] = {
    "drift": "io.seldon.serving.inference.drift",
    "outlier": "io.seldon.serving.inference.outlier",
    "adversarial": "io.offpath.inference.adversarial",
}
REMEMBERED = 10_000


class CloudEventsSink:
    """Publishes each finding once: what :meth:`flush` returned for is durable at the receiver.

    What the receiver refuses for good is left out, as it would stop everything behind it: ``flush`` then raises
    :class:`Rejected`, once.
    """

    def __init__(self, publisher: Publisher, source: str = "offpath", *, only_alarms: bool = False) -> None:
        self._publisher = publisher
        self._source = source
        self._only_alarms = only_alarms
        self._buffer: list[Finding] = []
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def write(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.id in self._seen or (self._only_alarms and not finding.alarm):
                continue
            self._seen[finding.id] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            self._buffer.append(finding)

    async def flush(self) -> None:
        if not self._buffer:
            return
        try:
            await self._publisher.publish([to_record(finding, self._source) for finding in self._buffer])
        except Rejected as error:
            n = len(self._buffer)
            self._buffer.clear()
            raise Rejected(f"of {n} findings, which stay in the other sinks, the receiver refuses: {error}") from error
        self._buffer.clear()

    async def close(self) -> None:
        await self._publisher.close()


def to_record(finding: Finding, source: str = "offpath") -> Record:
    """The finding as a CloudEvent in Kafka's binary mode; a transport over HTTP maps the headers."""
    key = f"{finding.namespace}/{finding.model}"
    headers = {
        "ce_specversion": "1.0",
        "ce_id": finding.id,
        "ce_source": source,
        "ce_type": TYPES[finding.kind],
        "ce_subject": finding.monitor,
        "ce_time": finding.time.isoformat(),
        "ce_partitionkey": key,
        "ce_namespace": finding.namespace,
        "ce_modelid": finding.model,
        "ce_inferenceservicename": finding.model,
        "content-type": "application/json",
    }
    if finding.request_id:
        headers["ce_requestid"] = finding.request_id
    value = orjson.dumps(body(finding), option=orjson.OPT_SERIALIZE_NUMPY)
    return Record(key, headers, value, finding.time.timestamp())


def body(finding: Finding) -> dict[str, Any]:
    """``data`` and ``meta`` as users of alibi-detect know them, and the whole finding."""
    verdict = finding.verdict
    flagged = {f"is_{finding.kind}": int(verdict.state == "alert"), "threshold": verdict.threshold}
    if finding.kind == "drift":
        data: dict[str, Any] = {**flagged, "distance": verdict.statistic, "p_val": verdict.p_val}
    else:
        data = {
            **flagged,
            "instance_score": [instance.score for instance in finding.instances],
            "index": [instance.row for instance in finding.instances],
        }
    meta = {"name": finding.detector_type, "detector_type": finding.kind, "data_type": None}
    return {"data": data, "meta": meta, "finding": finding.to_dict()}

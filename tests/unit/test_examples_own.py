"""The demo counts its own requests, whoever else sends."""

from __future__ import annotations

import json
from pathlib import Path

from monitor.events import Checkpoint, Record
from monitor.examples.own import Own, OwnTraffic
from monitor.transport.log import EmbeddedLog


def record(request_id: str, side: str) -> Record:
    headers = {"ce_id": f"{request_id}-{side}", "ce_type": side, "ce_requestid": request_id}
    return Record("m", headers, b"{}", 0.0)


def test_foreign_doubled_and_unjudged_events_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = EmbeddedLog(path)
    own = OwnTraffic(path, "demo-1-")
    assert own.count() == Own(0, 0)
    sides = ("request", "response")
    log.append("payloads", [record(name, side) for name in ("demo-1-0", "foreign", "demo-1-1") for side in sides])
    log.append("payloads", [record("demo-1-1", "response"), record("demo-1-2", "request")])
    log.append("dead-letters", [record("foreign", "request"), record("demo-1-1", "request")])
    assert own.count() == Own(0, 1)
    log.commit("offpath", "payloads/0", Checkpoint(2, json.dumps({"next": 7})))
    assert own.count() == Own(4, 1)
    own.end()
    log.close()

"""The status page of a worker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from detectors.base import DetectorError
from monitor.settings import Settings, StoreSink
from monitor.wiring.worker import Assembly

if TYPE_CHECKING:
    from monitor.web.server import PageServer


def serve_page(settings: Settings, assembly: Assembly, listen: str) -> PageServer:
    """The status page, /api and /metrics of a worker, in a thread.

    Raises
    ------
    DetectorError : no sink of the configuration is a store, which the page reads.
    OSError : the address is taken.
    """
    from monitor.web.app import create_app
    from monitor.web.overview import MonitorInfo, Overview
    from monitor.web.server import PageServer
    from sinks.store import FindingStore

    store = next((sink for sink in settings.sinks if isinstance(sink, StoreSink)), None)
    if store is None:
        raise DetectorError("the status page reads a sink of type store: configure one, or give --no-page")
    windows = {monitor.name: str(monitor.window) for monitor in settings.monitors}
    infos = tuple(
        MonitorInfo(
            s.name, s.namespace, s.model, s.kind, s.detector.meta.detector_type, windows[s.name],
            tuple(feature.name for feature in s.features),
        )
        for s in assembly.specs
    )  # fmt: skip
    metrics = assembly.metrics
    overview = Overview(infos, time.time, metrics.summary)
    findings = FindingStore(Path(store.path))
    return PageServer(create_app(findings, assembly.registry, overview), listen, close=findings.close)

"""Settings to objects: the only composition root."""

from monitor.wiring.captured import Captured, captured_rows, reasons
from monitor.wiring.ingest import build_endpoint, endpoint_tls
from monitor.wiring.monitors import build_specs, selected_features, selection
from monitor.wiring.page import serve_page
from monitor.wiring.routes import build_merging, build_pipeline
from monitor.wiring.transport import OpenTransport, open_log, open_transport
from monitor.wiring.worker import Assembly, build

__all__ = [
    "Assembly",
    "Captured",
    "OpenTransport",
    "build",
    "build_endpoint",
    "build_merging",
    "build_pipeline",
    "build_specs",
    "captured_rows",
    "endpoint_tls",
    "open_log",
    "open_transport",
    "reasons",
    "selected_features",
    "selection",
    "serve_page",
]

"""Settings to objects: the only composition root."""

from monitor.wiring.captured import captured_rows
from monitor.wiring.monitors import build_specs, selected_features, selection
from monitor.wiring.routes import build_pipeline
from monitor.wiring.worker import Assembly, build, open_log, serve_page

__all__ = [
    "Assembly",
    "build",
    "build_pipeline",
    "build_specs",
    "captured_rows",
    "open_log",
    "selected_features",
    "selection",
    "serve_page",
]

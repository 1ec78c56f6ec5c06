"""The demo's configuration: fitted detectors, and the file that capture and worker read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from detectors import artifact
from detectors.base import Array, Feature
from detectors.drift.tabular import TabularDrift
from detectors.outlier.isolation_forest import IForest
from monitor.examples.story import Story

DRIFT: dict[str, Any] = {"ert": 10_000}
"""Windows between two false alarms of a drift monitor."""

OUTLIERS: dict[str, Any] = {"share": 0.0005}
"""Share of ordinary rows that the outlier monitor may flag."""

LOG = "log.db"
"""The embedded log's file."""

HEADER = """\
# The configuration of `offpath demo`. Begin with it for a model of your own:
#   offpath check demo.yaml     every mistake, with its line
#   offpath schema              what can stand here, for editors
"""


def fit(story: Story, predictions: Array, folder: Path) -> None:
    """Learn the three detectors from the reference and write their artefacts.

    ``predictions`` are the model's probabilities ``(n_ref, 2)`` for the reference.
    """
    drift = TabularDrift(**DRIFT).fit(story.x_ref, story.features)
    artifact.save(drift, folder / "artefacts" / f"{story.name}-drift")
    outliers = IForest(**OUTLIERS).fit(story.x_ref, story.features)
    artifact.save(outliers, folder / "artefacts" / f"{story.name}-outliers")
    answers = TabularDrift(**DRIFT).fit(np.asarray(predictions)[:, 1:], [Feature(_outputs(story)[1])])
    artifact.save(answers, folder / "artefacts" / f"{story.name}-predictions")


def configure(story: Story, folder: Path, *, model: int, capture: int, admin: int, worker: int, window: int) -> Path:
    """Write ``demo.yaml`` for these ports; answers its path."""
    settings = {
        "models": [
            {
                "name": story.name,
                "namespace": "default",
                "features": [_feature(feature) for feature in story.features],
                "outputs": [{"name": name} for name in _outputs(story)],
            }
        ],
        "monitors": [
            _monitor(story, "drift", "TabularDrift", window),
            {
                **_monitor(story, "predictions", "TabularDrift", window),
                "side": "response",
                "columns": [_outputs(story)[1]],
            },
            _monitor(story, "outliers", "IForest", window),
        ],
        "transport": {"type": "embedded", "path": LOG},
        "sinks": [{"type": "store", "path": "findings.db"}, {"type": "prometheus"}],
        "capture": {
            "listen": f"127.0.0.1:{capture}",
            "upstream": f"127.0.0.1:{model}",
            "admin": f"127.0.0.1:{admin}",
            "model": story.name,
            "spool": "spool.db",
        },
        "worker": {"listen": f"127.0.0.1:{worker}", "commit_every": "500ms"},
    }
    path = folder / "demo.yaml"
    path.write_text(HEADER + yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=False, width=110))
    return path


def _monitor(story: Story, question: str, kind: str, window: int) -> dict[str, Any]:
    return {
        "name": f"{story.name}-{question}",
        "model": story.name,
        "window": {"count": window},
        "detector": {
            "type": kind,
            "artifact": f"artefacts/{story.name}-{question}",
            "params": DRIFT if kind == "TabularDrift" else OUTLIERS,  # so that fitting it again gives the same
        },
    }


def _feature(feature: Feature) -> dict[str, Any]:
    if feature.kind == "numeric":
        return {"name": feature.name}
    return {"name": feature.name, "type": "categorical", "categories": list(feature.categories)}


def _outputs(story: Story) -> list[str]:
    return [f"P({label})" for label in story.classes]

"""Which requests are inference."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Kind = Literal["inference", "feedback"]
Skip = Literal["method", "path", "probe", "header"]

_INFERENCE = re.compile(
    r"/v1/models/[^/:]+(?:/(?:versions|labels)/[^/:]+)?:(?:predict|classify|regress)/?$"
    r"|/v2/models/[^/]+(?:/versions/[^/]+)?/infer/?$"
    r"|/api/v(?:0\.1|1\.0)/predictions/?$"
)
_FEEDBACK = re.compile(r"/api/v(?:0\.1|1\.0)/feedback/?$")
_PROBE = re.compile(r"/(?:health|healthz|healthcheck|live|livez|ready|readyz|ping|metrics|prometheus)(?:/|$)")


@lru_cache(maxsize=4096)
def select(method: str, path: str) -> tuple[Kind | None, Skip | None]:
    """What a request is, or why it is skipped. ``path`` is without query; any prefix before the API's path is allowed.

    Explanations are no inference: the model is asked again for what it was asked before.

    >>> select("POST", "/v2/models/income/infer"), select("POST", "/seldon/ns/movie/api/v1.0/feedback")
    (('inference', None), ('feedback', None))
    >>> select("GET", "/v2/health/ready"), select("POST", "/v1/models/m:explain"), select("GET", "/v1/models/m")
    ((None, 'probe'), (None, 'path'), (None, 'method'))
    """
    if method in ("GET", "HEAD"):
        return None, "probe" if _PROBE.search(path) else "method"
    if method != "POST":
        return None, "method"
    if _INFERENCE.search(path):
        return "inference", None
    return ("feedback", None) if _FEEDBACK.search(path) else (None, "path")


def asks_to_skip(value: str) -> bool:
    """Whether a ``Seldon-Skip-Logging`` header of this value, empty if absent, asks to be left out."""
    return value.strip().lower() not in ("", "false", "0", "no")

"""Which requests are inference, and which of them are captured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Literal

from monitor.capture import grpc_methods

Kind = Literal["inference", "feedback"]
Skip = Literal["method", "path", "probe", "header", "excluded", "sampled"]

INFERENCE = "inference"
"""Among the patterns to include: the inference paths of V1, V2, Seldon and TF Serving, and Seldon's feedback."""

_INFERENCE = re.compile(
    r"/v1/models/[^/:]+(?:/(?:versions|labels)/[^/:]+)?:(?:predict|classify|regress)/?$"
    r"|/v2/models/[^/]+(?:/versions/[^/]+)?/infer/?$"
    r"|/api/v(?:0\.1|1\.0)/predictions/?$"
)
_FEEDBACK = re.compile(r"/api/v(?:0\.1|1\.0)/feedback/?$")
_PROBE = re.compile(r"/(?:health|healthz|healthcheck|live|livez|ready|readyz|ping|metrics|prometheus)(?:/|$)")
_WITH_BODY = ("POST", "PUT", "PATCH")

Select = Callable[[str, str], "tuple[Kind | None, Skip | None]"]


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
    if _INFERENCE.search(path) or path in grpc_methods.INFERENCE:
        return "inference", None
    if _FEEDBACK.search(path) or path in grpc_methods.FEEDBACK:
        return "feedback", None
    return None, "probe" if grpc_methods.PROBE.search(path) else "path"


def selector(include: Sequence[str] = (INFERENCE,), exclude: Sequence[str] = ()) -> Select:
    """A :func:`select` with a user's patterns: a path is captured if one of ``include``, none of ``exclude`` matches.

    Patterns are globs over the whole path, case-sensitive; ``*`` passes over ``/`` too. What is included by a pattern
    is captured for the methods that bring a body: POST, PUT, PATCH.

    >>> chosen = selector(["inference", "/score"], ["/v1/models/test-*"])
    >>> chosen("POST", "/score"), chosen("POST", "/v1/models/test-1:predict"), chosen("POST", "/v1/models/m:predict")
    (('inference', None), (None, 'excluded'), ('inference', None))
    """
    if tuple(include) == (INFERENCE,) and not exclude:
        return select
    usual = INFERENCE in include
    wanted, unwanted = _matcher(p for p in include if p != INFERENCE), _matcher(exclude)

    def chosen(method: str, path: str) -> tuple[Kind | None, Skip | None]:
        kind, reason = select(method, path)
        if method in _WITH_BODY and wanted(path):
            kind = kind or "inference"
        elif not usual:
            kind, reason = None, reason or "path"
        if kind is None:
            return None, reason
        return (None, "excluded") if unwanted(path) else (kind, None)

    return lru_cache(maxsize=4096)(chosen)


def _matcher(patterns: Iterable[str]) -> Callable[[str], object]:
    joined = "|".join(translate(pattern) for pattern in patterns)
    return re.compile(joined).match if joined else lambda _: None


def asks_to_skip(value: str) -> bool:
    """Whether a ``Seldon-Skip-Logging`` header of this value, empty if absent, asks to be left out."""
    return value.strip().lower() not in ("", "false", "0", "no")

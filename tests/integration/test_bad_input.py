"""Whatever arrives has a stated outcome, and the next event is processed as if nothing had happened.

The cases are the table of docs/bad-input.md.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from prometheus_client import generate_latest

from detectors import artifact
from detectors.base import Feature
from detectors.drift.tabular import TabularDrift
from monitor import wiring
from monitor.events import Record
from monitor.settings import Settings
from monitor.transport.log import EmbeddedLog

DOC = Path(__file__).parents[2] / "docs" / "bad-input.md"
FEATURES = (Feature("age"), Feature("sex", "categorical", ("F", "M")))
ROWS = 25
LABELS = '{model="m",monitor="drift",namespace="default"}'
GOOD = json.dumps({"instances": [[30 + i, "M"] for i in range(ROWS)]}).encode()


def dead(reason: str) -> str:
    return f'offpath_dead_letters_total{{reason="{reason}"}}'


def skipped(reason: str) -> str:
    return f'offpath_skipped_total{{reason="{reason}"}}'


def values(kind: str) -> str:
    return f"offpath_{kind}_values_total"


class Case(NamedTuple):
    """A bad event; ``counted`` is the series that it adds to, ``rows`` how many of its rows are judged."""

    counted: str
    body: bytes | None = GOOD
    headers: Mapping[str, str | None] = {}
    rows: int = 0
    values: int = 1
    """How much it adds."""


def instances(*rows: object) -> bytes:
    return json.dumps({"instances": rows}).encode()


TEN_MB = json.dumps({"instances": [[30, "M"]] * ROWS, "note": "x" * 10_000_000}).encode()
BOMB = gzip.compress(bytes(200_000_000), compresslevel=1)

CASES = {
    "unknown protocol": Case(dead("unknown_protocol"), b'{"question": "?"}', {"ce_path": None}),
    "truncated JSON": Case(dead("invalid_json"), GOOD[:-5]),
    "invalid JSON": Case(dead("invalid_json"), b"<html>502</html>"),
    "empty body": Case(dead("empty_body"), b""),
    "body cut by the sidecar": Case(dead("truncated"), GOOD[:50], {"ce_truncated": "true"}),
    "wrong column count": Case(dead("wrong_columns"), instances([1, "M", 3])),
    "named columns missing": Case(dead("wrong_columns"), b'{"inputs": {"age": [1]}}'),
    "rows of different lengths": Case(dead("ragged"), instances([1, "M"], [2])),
    "string where a number belongs": Case(dead("not_numeric"), instances(["old", "M"])),
    "unknown category": Case(values("unseen"), instances(*[[30, "?"]] * ROWS), rows=ROWS, values=ROWS),
    "unknown code": Case(values("unseen"), instances(*[[30, 7]] * ROWS), rows=ROWS, values=ROWS),
    "a code that is no whole number": Case(values("unseen"), instances(*[[30, 0.5]] * ROWS), rows=ROWS, values=ROWS),
    "NaN and null": Case(
        values("missing"),
        b'{"instances": [' + b"[NaN, null]," * (ROWS - 1) + b"[30, null]]}",
        rows=ROWS,
        values=2 * ROWS - 1,
    ),
    "infinity": Case(
        values("infinite"),
        b'{"instances": [' + b"[Infinity, 1]," * (ROWS - 1) + b"[30, 1]]}",
        rows=ROWS,
        values=ROWS - 1,
    ),
    "a whole number beyond 64 bits": Case("", instances(*[[2**70, "M"]] * ROWS), rows=ROWS),
    "the largest number": Case("", instances(*[[1e308, "M"]] * ROWS), rows=ROWS),
    "a code that is infinite": Case(
        values("infinite"),
        b'{"instances": [' + b"[30, Infinity]," * (ROWS - 1) + b"[30, 1]]}",
        rows=ROWS,
        values=ROWS - 1,
    ),
    "empty batch": Case(skipped("empty"), b'{"instances": []}'),
    "10 MB body": Case("", TEN_MB, rows=ROWS),
    "body above 16 MiB": Case(dead("too_large"), b" " * (16 * 1024 * 1024 - 2000) + GOOD * 10),
    "more than 200,000 rows": Case(dead("too_large"), b'{"instances": [' + b'[1,"M"],' * 200_000 + b'[1,"M"]]}'),
    "gzip bomb": Case(dead("inflate_limit"), BOMB, {"ce_contentencoding": "gzip"}),
    "broken gzip": Case(dead("invalid_encoding"), GOOD, {"ce_contentencoding": "gzip"}),
    "unknown encoding": Case(dead("unknown_encoding"), GOOD, {"ce_contentencoding": "compress"}),
    "V2 shape that does not fit": Case(
        dead("bad_shape"),
        b'{"inputs": [{"name": "x", "shape": [9, 9], "datatype": "FP64", "data": [1]}]}',
        {"ce_path": "/v2/models/m/infer"},
    ),
    "event without id": Case(skipped("missing_id"), GOOD, {"ce_id": None}, ROWS),
    "event without time": Case(skipped("missing_time"), GOOD, {"ce_time": None}, ROWS),
    "time far in the future": Case(skipped("future_time"), GOOD, {"ce_time": "2026-01-01T02:00:00Z"}, ROWS),
    "health check": Case(skipped("probe"), b'{"status": "alive"}', {"ce_path": None}),
    "impossible time": Case(dead("invalid_time"), GOOD, {"ce_time": "9999-12-31T23:59:59Z"}),
    "status that is no number": Case("", GOOD, {"ce_status": "\u00b2"}, ROWS),
    "nested too deep": Case(dead("bad_shape"), b'{"instances": ' + b"[" * 50 + b"]" * 50 + b"}"),
    "unreadable time": Case(dead("invalid_time"), GOOD, {"ce_time": "yesterday"}),
    "event of another type": Case(dead("unknown_type"), GOOD, {"ce_type": "com.example.order"}),
    "record without value": Case(dead("tombstone"), None),
    "model nobody configured": Case(skipped("unknown_model"), GOOD, {"ce_modelid": "other"}),
    "the same event again": Case(skipped("duplicate"), GOOD, {"ce_id": "good-0"}),
    "response with an error status": Case(
        skipped("error_status"),
        b'{"error": "no"}',
        {"ce_type": "org.kubeflow.serving.inference.response", "ce_status": "500"},
    ),
}


def record(identity: str, case: Case) -> Record:
    headers: dict[str, str | None] = {
        "ce_id": identity,
        "ce_source": "test",
        "ce_type": "org.kubeflow.serving.inference.request",
        "ce_time": "2026-01-01T00:00:00Z",
        "ce_modelid": "m",
        "ce_path": "/v1/models/m:predict",
        "content-type": "application/json",
        **case.headers,
    }
    return Record("m", {name: value for name, value in headers.items() if value is not None}, case.body, 1767225600.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    rng = np.random.default_rng(0)
    x_ref = np.column_stack([rng.integers(20, 60, 500), rng.integers(0, 2, 500)]).astype(float)
    artifact.save(TabularDrift().fit(x_ref, FEATURES), tmp_path / "drift")
    columns = [{"name": f.name, "type": f.kind, "categories": f.categories} for f in FEATURES]
    detector = {"type": "TabularDrift", "artifact": str(tmp_path / "drift")}
    return Settings.model_validate(
        {
            "models": [{"name": "m", "features": columns}],
            "monitors": [
                {"name": "drift", "model": "m", "window": {"count": ROWS}, "detector": detector},
                {"name": "answers", "model": "m", "side": "response", "columns": None, "detector": detector},
            ],
            "transport": {"path": str(tmp_path / "log.db")},
            "sinks": [{"type": "store", "path": str(tmp_path / "findings.db")}, {"type": "prometheus"}],
            "worker": {"commit_every": "0s"},
        }
    )


async def run_until_read(assembly: wiring.Assembly, end: int) -> None:
    """Run the worker until it has committed past ``end``."""
    commit = assembly.source.commit

    async def watch(checkpoints: Mapping[str, object]) -> None:
        await commit(checkpoints)  # type: ignore[arg-type]
        if any(json.loads(c.state)["next"] >= end for c in checkpoints.values()):  # type: ignore[attr-defined]
            assembly.worker.stop()

    assembly.source.commit = watch  # type: ignore[assignment]
    await asyncio.wait_for(assembly.worker.run(), 60)


def samples(assembly: wiring.Assembly) -> dict[str, float]:
    text = generate_latest(assembly.registry).decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_outcome(case: Case, settings: Settings) -> None:
    log = wiring.open_log(settings)
    records = [record("good-0", Case("")), record("bad", case), record("good-1", Case(""))]
    log.append("payloads", records)
    log.close()
    assembly = wiring.build(settings)
    before = samples(assembly)
    asyncio.run(run_until_read(assembly, 3))
    after = samples(assembly)
    asyncio.run(assembly.close())

    prefixes = ("offpath_dead", "offpath_skipped", *map(values, ("missing", "infinite", "unseen")))
    before, after = ({short(name): value for name, value in told.items()} for told in (before, after))
    changed = {name for name in after if name.startswith(prefixes) and after[name]}
    changed = {name for name in changed if not name.split("{")[0].endswith("_created")}
    assert changed == ({case.counted} if case.counted else set())
    assert changed <= before.keys(), "the series exists from the start"
    assert after.get(case.counted, 1) == case.values
    assert after[f"offpath_rows_total{LABELS}"] == 2 * ROWS + case.rows
    states = [
        value for name, value in after.items() if name.startswith("offpath_evaluations_total") and "drift" in name
    ]
    assert sum(states) == 2 + bool(case.rows), "what came before and after is judged"
    check_dead_letter(settings, case, records[1])


def short(name: str) -> str:
    """Without the labels, where they tell of the monitor."""
    return name.removesuffix(LABELS) if "_values_total" in name else name


def check_dead_letter(settings: Settings, case: Case, bad: Record) -> None:
    log = EmbeddedLog(Path(settings.transport.path))
    letters = [d.record for block in log.scan("dead-letters") for d in block.deliveries]
    log.close()
    if not case.counted.startswith("offpath_dead"):
        assert letters == []
        return
    (letter,) = letters
    original = bad.value or b""
    cut = len(original) > 16_000_000
    assert letter.value == (original[: 64 * 1024] if cut else original)
    assert letter.headers.get("offpath-cut") == (f"of {len(original)} bytes" if cut else None)
    assert letter.headers.items() >= bad.headers.items(), "all that came with it"
    assert letter.headers["offpath-reason"] in case.counted
    assert letter.headers["offpath-position"] == "payloads/0:1"
    assert letter.headers["offpath-error"]


def test_the_table_is_the_documented_one() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| [^|]+? \| (?:`([^`]+)`|—) \| (yes|no) \|$", DOC.read_text(), flags=re.MULTILINE)
    assert {name: (counted, letter) for name, counted, letter in rows} == {
        name: (case.counted, "yes" if case.counted.startswith("offpath_dead") else "no") for name, case in CASES.items()
    }

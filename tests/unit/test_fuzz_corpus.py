"""The fuzz targets over their corpora: seeds, and what fuzzing found. ``make fuzz`` looks for more."""

from __future__ import annotations

import importlib
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
INPUTS = sorted(path for path in CORPUS.glob("*/*"))
ARCHIVES = sorted(CORPUS.glob("*.tar.gz"))

sys.path.insert(0, str(ROOT))
TARGETS = {
    folder.name: importlib.import_module(f"tests.fuzz.{folder.name}").run
    for folder in CORPUS.iterdir()
    if folder.is_dir()
}


@pytest.mark.parametrize("path", INPUTS, ids=[f"{path.parent.name}-{path.name}" for path in INPUTS])
def test_the_corpus(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("path", ARCHIVES, ids=[path.name for path in ARCHIVES])
def test_what_earlier_runs_reached(path: Path) -> None:
    run = TARGETS[path.name.partition(".")[0]]
    with tarfile.open(path) as kept:
        inputs = [opened.read() for member in kept if (opened := kept.extractfile(member)) is not None]
    assert inputs
    for data in inputs:
        run(data)


CHUNKS = [
    b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/models/m:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HEAD /v1/models/m HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nno length",
    b"HTTP/1.1 204 No Content\r\n\r\n",
]


@given(st.data())
def test_conversations_of_http_in_pieces(data: st.DataObject) -> None:
    """Real messages of either side, split anywhere, in any order, with gaps, ends, garbage in between; any options."""
    pieces: list[bytes] = [b"P" + bytes([data.draw(st.integers(0, 255))])]
    for _ in range(data.draw(st.integers(1, 8))):
        chunk = data.draw(st.one_of(st.sampled_from(CHUNKS), st.binary(max_size=30)))
        side = b"U" if chunk.startswith(b"HTTP/") != data.draw(st.integers(0, 9).map(lambda n: n == 0)) else b"C"
        cut = data.draw(st.integers(0, len(chunk)))
        pieces += [side + len(part).to_bytes(2, "big") + part for part in (chunk[:cut], chunk[cut:])]
        pieces.append(data.draw(st.sampled_from([b"", b"", b"", b"G\x00", b"G\x01", b"E\x00", b"E\x01"])))
    TARGETS["http1"](b"".join(pieces))

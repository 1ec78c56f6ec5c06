"""Where the examples find their data, and what is said when they do not."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from monitor.examples import data, story
from monitor.examples.data import DataUnavailable, Source

TEXT = "one, two\n"
SOURCE = Source("set/part.data.gz", "https://nowhere.invalid/part.data", hashlib.md5(TEXT.encode()).hexdigest())


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A folder of one's own, an empty cache, and no download."""
    return {
        "OFFPATH_DATA": str(tmp_path / "given"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "OFFPATH_DATA_OFFLINE": "1",
    }


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


@pytest.mark.parametrize("folder", ["given", "cache/offpath/data"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_file_at_hand_is_read(tmp_path: Path, environ: dict[str, str], folder: str, packed: bool) -> None:
    content = TEXT.encode()
    name = SOURCE.name if packed else SOURCE.name.removesuffix(".gz")
    put(tmp_path / folder / name, gzip.compress(content) if packed else content)
    assert data.texts([SOURCE], environ) == [TEXT]


def test_the_given_folder_comes_first(tmp_path: Path, environ: dict[str, str]) -> None:
    put(tmp_path / "cache/offpath/data" / SOURCE.name, b"damaged")
    put(tmp_path / "given" / SOURCE.name, gzip.compress(TEXT.encode()))
    assert data.texts([SOURCE], environ) == [TEXT]


def test_a_missing_file_is_named_with_the_places_where_it_was_looked_for(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    with pytest.raises(DataUnavailable) as told:
        data.texts([SOURCE], environ)
    assert SOURCE.name in str(told.value)
    assert str(tmp_path / "given") in str(told.value)
    assert str(tmp_path / "cache") in str(told.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no gzip at all", "is damaged"),
        (gzip.compress(TEXT.encode())[:-9], "is damaged"),
        (gzip.compress(TEXT.encode())[:12] + b"\xff" * 30, "is damaged"),
        (gzip.compress(b"something else", mtime=0), "is not the published file"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(
    tmp_path: Path, environ: dict[str, str], content: bytes, words: str
) -> None:
    path = tmp_path / "given" / SOURCE.name
    put(path, content)
    with pytest.raises(DataUnavailable, match=words) as told:
        data.texts([SOURCE], environ)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"no gzip at all", gzip.compress(b"something else", mtime=0)])
def test_a_damaged_file_is_passed_over_and_told(tmp_path: Path, environ: dict[str, str], content: bytes) -> None:
    put(tmp_path / "given" / SOURCE.name, content)
    put(tmp_path / "cache/offpath/data" / SOURCE.name, gzip.compress(TEXT.encode()))
    told: list[str] = []
    assert data.texts([SOURCE], environ, told.append) == [TEXT]
    assert [str(tmp_path / "given" / SOURCE.name) in words for words in told] == [True]


def test_only_safe_addresses_are_asked(environ: dict[str, str]) -> None:
    del environ["OFFPATH_DATA_OFFLINE"]
    for url in ("http://example.org/part.data", "file:///etc/passwd"):
        with pytest.raises(DataUnavailable, match="is no https address"):
            data.texts([SOURCE._replace(url=url)], environ)


def test_tumour_needs_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OFFPATH_DATA", str(tmp_path))
    monkeypatch.setenv("OFFPATH_DATA_OFFLINE", "1")
    found = story.load("tumour")
    assert found.x_ref.shape[1] == found.x_stream.shape[1] == len(found.features) == 10
    trained = {row.tobytes() for row in found.x_train}
    assert not trained & {row.tobytes() for row in found.x_stream}
    assert 0.2 < found.shifted(found.x_stream).mean() < 0.8
    column, value = found.impossible
    assert value > 5 * found.x_ref[:, column].max()


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    environ.pop("XDG_CACHE_HOME", None)
    assert data.cache(environ) is None
    with pytest.raises(DataUnavailable):
        data.texts([SOURCE], environ)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "foo://127.0.0.1:1", "http://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_makes_it_unavailable(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    environ.pop("OFFPATH_DATA_OFFLINE", None)
    with pytest.raises(DataUnavailable, match="does not give it"):
        data.texts([SOURCE._replace(url="https://127.0.0.1:1/adult.data")], environ)

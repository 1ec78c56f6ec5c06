"""Settings and flags to the plan of the sidecar's processes."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest

from monitor.capture.plan import Plan
from monitor.capture.planning import make_plan
from monitor.commands import capture
from monitor.configuration import ConfigurationError
from monitor.settings import CaptureSettings, Settings


def settings_of(*flags: str) -> Settings:
    parser = ArgumentParser()
    capture.add_arguments(parser)
    return capture._settings(parser.parse_args(flags))


def test_the_environment_does_without_a_file_and_flags_go_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFPATH_CAPTURE__UPSTREAM", "model:8080")
    monkeypatch.setenv("OFFPATH_CAPTURE__LISTEN", ":1")
    settings = settings_of("--listen", ":2")
    assert (settings.capture.upstream, settings.capture.listen) == ("model:8080", ":2")
    monkeypatch.setenv("OFFPATH_CAPTURE__UPSTREAM", "model")
    with pytest.raises(ConfigurationError, match=r"OFFPATH_CAPTURE__UPSTREAM: capture\.upstream: expected host:port"):
        settings_of()


def test_the_sidecar_needs_no_artefacts(tmp_path: Path) -> None:
    file = tmp_path / "offpath.yaml"
    file.write_text(
        "models: [{name: m}]\n"
        "monitors: [{name: a, model: m, detector: {type: KNN, artifact: elsewhere}}]\n"
        "capture: {token_file: token}\n"
    )
    assert settings_of("--config", str(file)).capture.token_file == str(tmp_path / "token")


def test_delivery_settings_reach_the_shipper() -> None:
    told = {
        "url": "https://broker/",
        "timeout": "3s",
        "connections": 2,
        "pipeline": 5,
        "token": "s3cret",
        "token_file": "/token",
        "buffer": "3MiB",
        "spool": "s.db",
        "spool_limit": "1MiB",
        "spool_age": "2h",
    }
    settings = Settings(capture=CaptureSettings.model_validate(told))
    plan = make_plan(settings)
    shipping = Plan.from_json(plan.to_json()).shipping
    assert (shipping.url, shipping.timeout, shipping.connections, shipping.pipeline) == ("https://broker/", 3.0, 2, 5)
    assert (shipping.token, shipping.token_file) == ("s3cret", "/token")
    assert (shipping.buffer, shipping.spool) == (3 * 1024**2, "s.db")
    assert (shipping.spool_limit, shipping.spool_age) == (1024**2, 7200.0)
    assert "s3cret" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_flags_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "offpath.yaml"
    config.write_text("capture: {url: 'http://a/', spool_age: 1h, token: t}\n")
    parser = ArgumentParser()
    capture.add_arguments(parser)
    args = parser.parse_args(["--config", str(config), "--spool-age", "5m", "--token-file", "/run/token"])
    shipping = make_plan(capture._settings(args)).shipping
    assert (shipping.url, shipping.spool_age, shipping.token_file, shipping.token) == (
        "http://a/",
        300.0,
        "/run/token",
        "t",
    )


@pytest.mark.parametrize(("key", "value"), [("connections", 0), ("pipeline", 0), ("timeout", "soon"), ("buffer", "x")])
def test_what_is_no_setting(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        CaptureSettings.model_validate({key: value})

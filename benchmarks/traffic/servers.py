"""The servers side by side: an upstream that answers fixed bodies, nginx and haproxy before it, and the sidecar."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from traffic.meters import children

CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE, LOAD_CORE = CORES[0], CORES[-1]
"""What is measured has one core for itself; load, upstream and receiver have another, where there are two."""

PATH = "/v1/models/m:predict"
RPC = "/inference.GRPCInferenceService/ModelInfer"
SIZES = (300, 4096, 61440)

_NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 16384; }}
http {{
    access_log off; keepalive_requests 100000000; tcp_nodelay on; sendfile on; open_file_cache max=100;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_max_body_size 0;
    client_body_buffer_size 256k; http2_max_concurrent_streams 1000; http2_body_preread_size 128k;
    {inside}
}}
"""
_PROXY = """
    upstream models {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
    upstream calls {{ server 127.0.0.1:{upstream_h2}; keepalive 256; keepalive_requests 100000000; }}
    server {{ listen 127.0.0.1:{port}; location / {{
        proxy_pass http://models; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_buffers 8 32k; proxy_buffer_size 32k; }} }}
    server {{ listen 127.0.0.1:{port_h2} http2; location / {{
        grpc_pass grpc://calls; grpc_buffer_size 128k; }} }}
"""
_UPSTREAM = """
    server {{ listen 127.0.0.1:{port}; listen 127.0.0.1:{port_h2} http2; root {folder}; default_type application/grpc;
        error_page 418 =200 /$http_x_size; location / {{ return 418; }} location ~ ^/[0-9]+$ {{ }} }}
"""
_RECEIVER = """
    server {{ listen 127.0.0.1:{port}; location / {{ return 202; }} location = /count {{ stub_status; }} }}
"""
_SLOW = """
    limit_req_zone $binary_remote_addr zone=slow:1m rate=1r/s;
    server {{ listen 127.0.0.1:{port}; location = /taken {{ return 202; }}
        location / {{ limit_req zone=slow; limit_req_status 429; proxy_pass http://127.0.0.1:{port}/taken; }} }}
"""
_HAPROXY = """
global
    nbthread 1
    maxconn 4000
    tune.bufsize 131072
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend f
    bind 127.0.0.1:{port}
    default_backend b
backend b
    server s 127.0.0.1:{upstream}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Wait for a condition; ``SystemExit`` if it does not come."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise SystemExit(f"{what} did not happen within {seconds:g} s")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A process on a core, and those it starts."""

    def __init__(self, name: str, line: list[str], core: int, port: int, port_h2: int = 0, **options: Any) -> None:
        self.name, self.port, self.port_h2 = name, port, port_h2
        self.process = subprocess.Popen(["taskset", "-c", str(core), *line], **options)
        until(lambda: answers(port), f"the start of {name}")

    @property
    def pids(self) -> list[int]:
        return [self.process.pid, *children(self.process.pid)]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def _nginx(name: str, folder: Path, core: int, inside: str, **values: Any) -> Server:
    home = folder / name
    home.mkdir(exist_ok=True)
    port, port_h2 = free_port(), free_port()
    text = inside.format(folder=home, port=port, port_h2=port_h2, **values)
    (home / "nginx.conf").write_text(_NGINX.format(folder=home, inside=text))
    home.chmod(0o755)
    line = ["nginx", "-p", str(home), "-e", str(home / "error.log"), "-g", "user root;"]
    if os.getuid():
        line = line[:-2]
    return Server(name, [*line, "-c", str(home / "nginx.conf")], core, port, port_h2, stderr=subprocess.DEVNULL)


def upstream(folder: Path) -> Server:
    """Answers every request with a file of the size that its header ``x-size`` names."""
    home = folder / "upstream"
    home.mkdir()
    for size in SIZES:
        (home / str(size)).write_bytes(bytes(97 + i % 26 for i in range(size)))
    return _nginx("upstream", folder, LOAD_CORE, _UPSTREAM)


def receiver(folder: Path) -> Server:
    """Takes events and counts them."""
    return _nginx("receiver", folder, LOAD_CORE, _RECEIVER)


def slow_receiver(folder: Path) -> Server:
    """Takes one event a second, and answers 429 to the others."""
    return _nginx("slow", folder, LOAD_CORE, _SLOW)


def received(server: Server) -> int:
    """Requests that the receiver has had; asking is one more, and not counted."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/count") as answer:
        count = int(answer.read().split(b"\n")[2].split()[2])
    server.asked = getattr(server, "asked", 0) + 1  # type: ignore[attr-defined]
    return count - int(server.asked)  # type: ignore[attr-defined]


def nginx(folder: Path, behind: Server) -> Server:
    """``proxy_pass`` and ``grpc_pass`` with keep-alive on both sides; no body touches its disk."""
    return _nginx("nginx", folder, PROXY_CORE, _PROXY, upstream=behind.port, upstream_h2=behind.port_h2)


def haproxy(folder: Path, behind: Server) -> Server:
    port = free_port()
    path = folder / "haproxy.cfg"
    path.write_text(_HAPROXY.format(port=port, upstream=behind.port))
    return Server("haproxy", ["haproxy", "-db", "-f", str(path)], PROXY_CORE, port)


class Sidecar(Server):
    """``offpath capture``, its shipper included; ``flags`` say where events go. ``file_limit``: bytes of its files."""

    def __init__(self, name: str, folder: Path, upstream_port: int, *flags: str, file_limit: int = 0) -> None:
        home = folder / name.replace(" ", "-")
        home.mkdir()
        port, self.admin = free_port(), free_port()
        line = [sys.executable, "-m", "monitor", "capture", "--listen", f"127.0.0.1:{port}"]
        line += ["--upstream", f"127.0.0.1:{upstream_port}", "--admin", f"127.0.0.1:{self.admin}", *flags]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.said = (home / "stderr").open("wb")
        if file_limit:
            line = ["prlimit", f"--fsize={file_limit}", *line]
        super().__init__(name, line, PROXY_CORE, port, port, cwd=home, stderr=self.said, env=environment)
        if "none" not in flags:
            until(lambda: self.metric("shipper_up") == 1, "the shipper's start")

    @property
    def relay(self) -> list[int]:
        return [self.process.pid]

    @property
    def shipper(self) -> list[int]:
        return children(self.process.pid)

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics") as answer:
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if line[0] != "#"]
        return {name.removeprefix("offpath_capture_"): float(value) for name, _, value in lines}

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        return sum(
            value for key, value in self.metrics().items() if key.partition("{")[0] == f"{name}_total" or key == name
        )

    def settle(self, seconds: float = 180.0) -> None:
        """Wait until everything made is delivered or counted as lost, asking rarely: that is work for the relay."""
        last = (-1.0, -1.0)

        def quiet() -> bool:
            nonlocal last
            time.sleep(0.5)
            told = self.metrics()
            now = (told["published_total"], told["copied_frames_total"])
            still = now == last and told["queue_bytes"] == 0 and told["spool_events"] == 0
            last = now
            return still

        until(quiet, f"an end of what {self.name} delivers", seconds)

    def stop(self) -> None:
        super().stop()
        self.said.close()

    def kill(self) -> None:
        """At once, and its shipper with it."""
        self.process.kill()
        for pid in self.shipper:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.said.close()


def missing() -> list[str]:
    """Programs that the benchmark needs and that are not there."""
    return [program for program in ("nginx", "haproxy", "wrk", "taskset") if shutil.which(program) is None]

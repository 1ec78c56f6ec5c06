"""The examples' model server: three protocols, one answer; bad input is refused with a sentence."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from detectors.base import Array, Feature
from monitor.examples import story
from monitor.examples.model_server import create_app

PREDICT = "/v1/models/tumour:predict"
INFER = "/v2/models/tumour/infer"
SELDON = "/api/v1.0/predictions"
BEHIND = "/seldon/seldon/tumour/api/v1.0/predictions"


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    """The process that `offpath demo` starts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "monitor.examples.model_server", "--example=tumour", f"--fd={listener.fileno()}"],
            pass_fds=[listener.fileno()],
        )
    with httpx.Client(base_url=url, timeout=60.0, trust_env=False) as client:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            try:
                client.get("/v2/health/ready").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield client
    process.terminate()
    assert process.wait(60) in (0, -15)


@pytest.fixture(scope="module")
def rows() -> list[list[float]]:
    found: list[list[float]] = story.load("tumour").x_stream[:3].tolist()
    return found


def v2(rows: Any, **changes: Any) -> dict[str, Any]:
    tensor = {"name": "rows", "datatype": "FP64", "shape": [len(rows), 10], "data": rows}
    return {"inputs": [{**tensor, **changes}]}


def test_all_protocols_give_the_same_answer(server: httpx.Client, rows: list[list[float]]) -> None:
    answer = server.post(PREDICT, json={"instances": rows})
    expected = np.array(answer.json()["predictions"])
    assert expected.shape == (3, 2)
    np.testing.assert_allclose(expected.sum(axis=1), 1.0, atol=2e-4)
    answer = server.post(INFER, json=v2(rows))
    output = answer.json()["outputs"][0]
    assert (answer.json()["model_name"], output["datatype"], output["shape"]) == ("tumour", "FP64", [3, 2])
    np.testing.assert_array_equal(np.reshape(output["data"], output["shape"]), expected)
    for path in (SELDON, BEHIND):
        found = server.post(path, json={"data": {"ndarray": rows}}).json()["data"]
        assert found["names"] == ["benign", "malignant"]
        np.testing.assert_array_equal(found["ndarray"], expected)


def test_columns_by_name_come_in_any_order(server: httpx.Client, rows: list[list[float]]) -> None:
    names = [feature.name for feature in story.load("tumour").features]
    expected = server.post(PREDICT, json={"instances": rows}).json()["predictions"]
    turned = {"names": names[::-1], "ndarray": [row[::-1] for row in rows]}
    assert server.post(SELDON, json={"data": turned}).json()["data"]["ndarray"] == expected
    instances = [dict(zip(names[::-1], row[::-1], strict=True)) for row in rows]
    assert server.post(PREDICT, json={"instances": instances}).json()["predictions"] == expected


def test_no_rows_no_answers(server: httpx.Client) -> None:
    assert server.post(PREDICT, json={"instances": []}).json() == {"predictions": []}


def test_a_missing_value_is_no_error(server: httpx.Client, rows: list[list[float]]) -> None:
    answer = server.post(PREDICT, json={"instances": [[None, *rows[0][1:]]]})
    assert answer.status_code == 200
    assert np.isfinite(answer.json()["predictions"]).all()


@pytest.mark.parametrize(
    "path", ["/v1/models/tumour", "/v2/models/tumour", "/v2/models/tumour/ready", "/v2/health/live", "/v2/health/ready"]
)
def test_it_says_that_it_is_ready(server: httpx.Client, path: str) -> None:
    assert server.get(path).json()["ready"] is True


ROW = [1.0] * 10


@pytest.mark.parametrize("path", [PREDICT, INFER, SELDON, BEHIND])
@pytest.mark.parametrize("body", [b"", b"{", b"[1, 2]", b"null", b'{"other": 1}', b"\xff\xfe\x00", b'{"instances": 3}'])
def test_what_is_no_message_is_refused(server: httpx.Client, path: str, body: bytes) -> None:
    assert_refused(server.post(path, content=body))


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (PREDICT, {"instances": [ROW[:9]]}, "9"),
        (PREDICT, {"instances": [ROW, ROW[:9]]}, "different lengths"),
        (PREDICT, {"instances": [["many", *ROW[1:]]]}, "'many' where a number belongs"),
        (PREDICT, {"instances": [{"mean radius": 1.0}]}, "mean texture"),
        (INFER, v2([ROW], shape=[2, 10]), "does not fit"),
        (INFER, v2([ROW], shape="wide"), "shape"),
        (SELDON, {"data": {"ndarray": [ROW[:3]]}}, "3"),
        (SELDON, {"data": {"tensor": {"shape": [1, 10], "values": [1.0]}}}, "shape"),
        (BEHIND, {"data": {}}, "ndarray"),
    ],
)
def test_bad_rows_are_refused_in_words(server: httpx.Client, path: str, body: dict[str, Any], words: str) -> None:
    assert words in assert_refused(server.post(path, content=json.dumps(body)))


def test_another_model_is_not_here(server: httpx.Client) -> None:
    answer = server.post("/v1/models/other:predict", json={"instances": [ROW]})
    assert answer.status_code == 404
    assert "/v1/models/other:predict" in answer.json()["error"]
    assert "tumour" in answer.json()["error"]


def assert_refused(answer: httpx.Response) -> str:
    """4xx with a sentence; and the server goes on."""
    assert 400 <= answer.status_code < 500, answer.text
    text = answer.json()["error"]
    assert isinstance(text, str)
    assert len(text.split()) > 3
    return text


def test_the_income_example_is_where_the_issue_says() -> None:
    """Its paths and labels, with a model that answers from the first column; no data set is needed."""
    empty = np.empty((0, 2))
    features = (Feature("Age"), Feature("Sex", "categorical", ("Female", "Male")))
    income = story.Story(
        "income", features, ("<=50K", ">50K"), empty, np.empty(0, np.int64), empty, empty,
        lambda rows: rows[:, 0] < 28, "", (0, 190.0),
    )  # fmt: skip

    def predict(x: Array) -> Array:
        return np.column_stack([x[:, 0] / 100, x[:, 1]])

    async def ask(path: str, body: dict[str, Any]) -> Any:
        transport = httpx.ASGITransport(create_app(income, predict))
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            return (await client.post(path, json=body)).json()

    seldon = {"data": {"names": ["<=50K", ">50K"], "ndarray": [[0.39, 1.0]]}, "meta": {}}
    rows = [[39, "Male"]]
    assert asyncio.run(ask("/v1/models/income:predict", {"instances": rows})) == {"predictions": [[0.39, 1.0]]}
    for path in ("/api/v1.0/predictions", "/seldon/seldon/income/api/v1.0/predictions"):
        assert asyncio.run(ask(path, {"data": {"ndarray": rows}})) == seldon
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [39, 1]}
    answer = asyncio.run(ask("/v2/models/income/infer", {"inputs": [tensor]}))
    assert answer["outputs"][0]["data"] == [0.39, 1.0]

"""The examples' model server: one classifier behind V1, V2 and Seldon. ``python -m monitor.examples.model_server``."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from detectors.base import Array
from monitor.codecs.base import Tensors
from monitor.codecs.detect import CODECS
from monitor.columns import Columns
from monitor.events import InvalidEvent
from monitor.examples.story import Story, load, train

Predict = Callable[[Array], Array]


def create_app(story: Story, predict: Predict) -> FastAPI:
    """The server of one model; ``predict`` takes ``(n, d)`` rows to ``(n, classes)`` probabilities."""
    app = FastAPI(docs_url=None, redoc_url=None)
    _predictions(app, story, predict)
    _readiness(app, story.name)

    @app.exception_handler(InvalidEvent)
    async def bad_request(_: Request, error: InvalidEvent) -> Response:
        return JSONResponse({"error": str(error)}, 400)

    @app.exception_handler(404)
    async def no_such_path(request: Request, _: Exception) -> Response:
        return JSONResponse({"error": f"nothing is at {request.url.path}; the model here is {story.name}"}, 404)

    return app


def _predictions(app: FastAPI, story: Story, predict: Predict) -> None:
    name, columns = story.name, Columns(story.features)

    async def answer(request: Request, protocol: str) -> Array:
        tensors: Tensors = CODECS[protocol].decode(await request.body(), request.headers)
        return predict(columns.rows(tensors))

    @app.post(f"/v1/models/{name}:predict")
    async def v1(request: Request) -> Any:
        return {"predictions": (await answer(request, "v1")).tolist()}

    @app.post(f"/v2/models/{name}/infer")
    async def v2(request: Request) -> Any:
        found = await answer(request, "v2")
        output = {
            "name": "probabilities",
            "datatype": "FP64",
            "shape": list(found.shape),
            "data": found.ravel().tolist(),
        }
        return {"model_name": name, "outputs": [output]}

    @app.post("/api/v1.0/predictions")
    @app.post(f"/seldon/seldon/{name}/api/v1.0/predictions")
    async def seldon(request: Request) -> Any:
        found = (await answer(request, "seldon")).tolist()
        return {"data": {"names": list(story.classes), "ndarray": found}, "meta": {}}


def _readiness(app: FastAPI, name: str) -> None:
    @app.get(f"/v1/models/{name}")
    @app.get(f"/v2/models/{name}")
    @app.get(f"/v2/models/{name}/ready")
    @app.get("/v2/health/live")
    @app.get("/v2/health/ready")
    async def ready() -> Any:
        return {"name": name, "ready": True}


def main() -> None:
    """Train and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--example", choices=("income", "tumour"), default="income")
    parser.add_argument("--fd", type=int, required=True, help="a listening socket, inherited")
    args = parser.parse_args()
    import uvicorn

    story = load(args.example)
    model = train(story)

    def predict(x: Array) -> Array:
        return np.asarray(model.predict_proba(x)).round(4) if len(x) else np.empty((0, 2))

    listener = socket.socket(fileno=args.fd)
    config = uvicorn.Config(create_app(story, predict), log_level="warning", access_log=False, lifespan="off")
    asyncio.run(uvicorn.Server(config).serve([listener]))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

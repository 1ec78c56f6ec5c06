"""Publishes records as CloudEvents over HTTP, in binary mode: to a broker, an event display, another offpath."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import httpx

from monitor.transport.base import Record, Rejected, Unavailable
from monitor.transport.cloudevent_http import http_headers

FIRST_BACKOFF, LAST_BACKOFF = 0.1, 10.0
"""Seconds between attempts, doubled each time, less up to half by chance."""

LONGEST_RETRY_AFTER = 30.0
RETRIED = frozenset({404, 408, 409, 429})
"""Answers that Knative retries, beside 5xx; other 3xx and 4xx are final."""

ANSWER_BYTES = 64 * 1024
"""What is read of an answer, so that its connection can be used again; of longer ones the connection is closed."""


class HttpPublisher:
    """Posts each record; what has the same key goes one after another, different keys at once.

    Parameters
    ----------
    url : where to. Its user, password and query never show up in errors.
    timeout : seconds for connecting and for each wait for the receiver.
    max_retries : attempts after the first, on connection errors and on 404, 408, 409, 429 and 5xx.
    concurrency : requests under way at once.
    token : sent as ``Authorization: Bearer``.
    transport : an httpx transport, for tests.

    Raises
    ------
    ValueError : ``url`` is no http or https URL.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10.0,
        max_retries: int = 5,
        concurrency: int = 4,
        token: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL:
            raise ValueError("the receiver's URL cannot be read") from None
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise ValueError(f"{_shown(self._url)} is no http:// or https:// URL")
        self._max_retries, self._token, self._sleep = max_retries, token, sleep
        self._slots = asyncio.Semaphore(concurrency)
        self._client = httpx.AsyncClient(
            timeout=timeout,
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            headers={"authorization": f"Bearer {token}"} if token else None,
            transport=transport,
        )

    async def publish(self, records: Sequence[Record]) -> None:
        """Return once the receiver has taken all.

        Raises
        ------
        Unavailable : it did not take some of them; send all again (it may get some twice).
        Rejected : it will never take some of them; it has taken all the others.
        """
        chains: dict[str | None, list[Record]] = {}
        for record in records:
            chains.setdefault(record.key, []).append(record)
        stop = asyncio.Event()
        results = await asyncio.gather(*(self._chain(chain, stop) for chain in chains.values()), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        failures.sort(key=lambda failure: isinstance(failure, Rejected))  # Unavailable means more than Rejected
        if failures:
            raise failures[0]

    async def close(self) -> None:
        await self._client.aclose()

    async def _chain(self, records: Sequence[Record], stop: asyncio.Event) -> None:
        """Send in order. What is rejected does not hold up the rest; an absent receiver ends all chains."""
        rejected: list[Rejected] = []
        for record in records:
            async with self._slots:
                if stop.is_set():
                    return
                try:
                    await self._send(record)
                except Rejected as error:
                    rejected.append(error)
                except BaseException:
                    stop.set()
                    raise
        if rejected:
            raise rejected[0] if len(rejected) == 1 else Rejected(f"{rejected[0]} (and {len(rejected) - 1} more)")

    async def _send(self, record: Record) -> None:
        headers = http_headers(record)
        backoff, wait, problem = FIRST_BACKOFF, 0.0, ""
        for attempt in range(self._max_retries + 1):
            if attempt:
                await self._sleep(wait)
            wait = backoff * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, protects nothing
            backoff = min(2 * backoff, LAST_BACKOFF)
            try:
                status, answer, retry_after = await self._post(record.value or b"", headers)
            except httpx.RequestError as error:
                problem = f"{type(error).__name__} {error}".strip()
                continue
            if status < 300:
                return
            problem = f"status {status}: {answer}"
            if status not in RETRIED and status < 500:
                raise Rejected(
                    f"{_shown(self._url)} does not take event {record.headers.get('ce_id', '')!r}: {problem}"
                )
            wait = max(wait, retry_after)
        raise Unavailable(
            f"{_shown(self._url)} took no event in {self._max_retries + 1} attempts: {self._safe(problem)}"
        )

    async def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, str, float]:
        """Status, the first of the answer, and seconds the receiver asks to wait."""
        answer = b""
        async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > ANSWER_BYTES:
                    break
        asked = response.headers.get("retry-after", "")
        retry_after = min(float(asked), LONGEST_RETRY_AFTER) if asked.isascii() and asked.isdigit() else 0.0
        return response.status_code, self._safe(answer[:200].decode("utf-8", "replace")), retry_after

    def _safe(self, text: str) -> str:
        return text.replace(self._token, "[token]") if self._token else text


def _shown(url: httpx.URL) -> str:
    return str(url.copy_with(username=None, password=None, query=None, fragment=None))

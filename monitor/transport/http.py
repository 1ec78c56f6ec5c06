"""Publishes records as CloudEvents over HTTP, in binary mode: to a broker, an event display, another offpath."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from monitor.transport.base import Record, Rejected, Unavailable
from monitor.transport.http_answers import Answer
from monitor.transport.http_lane import Lane
from monitor.transport.http_request import Endpoint, Requests

if TYPE_CHECKING:
    from monitor.transport.http_tls import Contexts

FIRST_BACKOFF, LAST_BACKOFF = 0.1, 10.0
"""Seconds between attempts, doubled each time, less up to half by chance."""


class _Outcome(NamedTuple):
    """``left`` was not taken, and why; ``refused`` never will be."""

    left: Sequence[Record] = ()
    problem: str = ""
    retry_after: float = 0.0
    refused: Sequence[tuple[Record, Answer]] = ()


class HttpPublisher:
    """Posts each record; what has the same key goes over one connection, in order.

    Parameters
    ----------
    url : where to. Its user, password and query never show up in errors.
    timeout : seconds for connecting and for each wait for the receiver.
    max_retries : attempts after the first, on connection errors and on 404, 408, 409, 429 and 5xx. Whatever the
        receiver takes or refuses in between starts the count anew.
    connections : connections at once.
    pipeline : requests under way on each of them. With more than 1, a record that the receiver did not take at once
        may come after younger ones of its key.
    token : sent as ``Authorization: Bearer``.
    token_file : holds the token, and is read again when it changes.
    tls : for https, the files of :class:`~monitor.transport.http_tls.TlsFiles`.

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
        connections: int = 4,
        pipeline: int = 1,
        token: str = "",
        token_file: Path | None = None,
        tls: tuple[str, str, str] = ("", "", ""),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint = Endpoint.parse(url)
        self._requests = Requests(self._endpoint)
        self._timeout, self._max_retries, self._sleep = timeout, max_retries, sleep
        self._token, self._token_file, self._token_time = token, token_file, -1
        self._requests.authorize(token)
        self._tls = tls
        self._contexts: Contexts | None = None
        self._lanes = [Lane(self._connect, depth=pipeline, timeout=timeout) for _ in range(connections)]
        self._turn = asyncio.Lock()

    async def publish(self, records: Sequence[Record]) -> None:
        """Return once the receiver has taken all.

        Raises
        ------
        Unavailable : it did not take some of them; send those again (it may get some twice).
        Rejected : it will never take some of them; it has taken all the others.
        """
        async with self._turn:
            self._read_token()
            shares = self._shares(records)
            if len(shares) == 1:
                outcomes = [await self._deliver(self._lanes[0], shares[0])]
            else:
                outcomes = await asyncio.gather(*map(self._deliver, self._lanes, shares))
        self._judge(records, outcomes)

    async def close(self) -> None:
        """Drop the connections; a :meth:`publish` under way raises :class:`Unavailable` with what is left."""
        self._max_retries = -1
        for lane in self._lanes:
            lane.close()

    def _shares(self, records: Sequence[Record]) -> list[list[Record]]:
        """The records for each connection: a key's all on one."""
        if len({record.key for record in records}) == 1:
            return [list(records)]
        chains: dict[str | None, list[Record]] = {}
        for record in records:
            chains.setdefault(record.key, []).append(record)
        shares: list[list[Record]] = [[] for _ in range(min(len(chains), len(self._lanes)))]
        for chain in sorted(chains.values(), key=len, reverse=True):
            min(shares, key=len).extend(chain)
        return shares

    async def _deliver(self, lane: Lane, records: Sequence[Record]) -> _Outcome:
        """Send in order. What is rejected does not hold up the rest."""
        waiting = list(records)
        refused: list[tuple[Record, Answer]] = []
        backoff, failures = FIRST_BACKOFF, 0
        while True:
            answers, problem = await lane.exchange(list(map(self._requests.encode, waiting)))
            again, retry_after = [], 0.0
            for record, answer in _not_taken(waiting, answers):
                if answer.retried:
                    again.append(record)
                    problem, retry_after = str(answer), max(retry_after, answer.retry_after)
                else:
                    refused.append((record, answer))
            if len(answers) > len(again):
                backoff, failures = FIRST_BACKOFF, 0
            waiting = again + waiting[len(answers) :]
            if not waiting:
                return _Outcome(refused=refused)
            if again or not answers or lane.stalled:
                failures += 1
            if failures > self._max_retries:
                return _Outcome(waiting, problem, retry_after, refused)
            if failures:
                await self._sleep(max(retry_after, backoff * random.uniform(0.5, 1.0)))  # noqa: S311 - spreads retries
                backoff = min(2 * backoff, LAST_BACKOFF)

    def _judge(self, records: Sequence[Record], outcomes: Sequence[_Outcome]) -> None:
        refused = [pair for outcome in outcomes for pair in outcome.refused]
        away = [outcome for outcome in outcomes if outcome.left]
        shown = self._endpoint.shown
        if away:
            missing = {id(record) for outcome in away for record in outcome.left}
            raise Unavailable(
                f"{shown} did not take {len(missing)} of {len(records)} events: {self._explained(away[0].problem)}",
                left=[record for record in records if id(record) in missing],
                refused=[record for record, _ in refused],
                retry_after=max(outcome.retry_after for outcome in away),
            )
        if refused:
            record, answer = refused[0]
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            raise Rejected(
                f"{shown} does not take event {record.headers.get('ce_id', '')!r}: {self._safe(str(answer))}{more}",
                refused=[record for record, _ in refused],
            )

    async def _connect(self, protocol: Callable[[], asyncio.Protocol]) -> object:
        loop, to = asyncio.get_running_loop(), self._endpoint
        if not to.tls:
            return await loop.create_connection(protocol, to.host, to.port)
        if self._contexts is None:  # most receivers need none, and it takes megabytes
            from monitor.transport.http_tls import Contexts, TlsFiles

            self._contexts = Contexts(TlsFiles(*self._tls))
        try:
            context = self._contexts.current()
        except ValueError as error:
            raise OSError(str(error)) from error
        return await loop.create_connection(protocol, to.host, to.port, ssl=context, server_hostname=to.host)

    def _explained(self, problem: str) -> str:
        if self._contexts is None:
            return self._safe(problem)
        from monitor.transport.http_tls import explained

        return explained(self._safe(problem), self._tls[1])

    def _read_token(self) -> None:
        """Tokens of service accounts are replaced while they are in use."""
        if self._token_file is None:
            return
        try:
            changed = self._token_file.stat().st_mtime_ns
            if changed == self._token_time:
                return
            token = self._token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"the token file {self._token_file} cannot be read: {error}") from None
        self._token, self._token_time = token, changed
        self._requests.authorize(token)

    def _safe(self, text: str) -> str:
        return text.replace(self._token, "[token]") if self._token else text


def _not_taken(records: Sequence[Record], answers: Sequence[Answer]) -> list[tuple[Record, Answer]]:
    """As a rule none: then all answers are the same."""
    if answers and answers[0].taken and answers.count(answers[0]) == len(answers):
        return []
    return [pair for pair in zip(records, answers, strict=False) if not pair[1].taken]

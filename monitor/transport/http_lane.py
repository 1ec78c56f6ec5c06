"""One keep-alive HTTP/1.1 connection to a receiver, with several requests under way.

Requests are pipelined (RFC 9112, section 9.3.2): a receiver answers those of a connection in order. A receiver that
breaks off with several under way may not know that, so for a while it gets one at a time. That a request is sent
again when its answer is missing is safe: events have ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from monitor.transport.http_answers import Answer, AnswerReader, UnreadableError

WINDOW_BYTES = 1024 * 1024
"""Requests under way together, unless there is only one."""

FIRST_CAUTION, LONGEST_CAUTION = 64, 65536
"""Answers that must come one by one before a receiver that broke off gets several requests at once again."""

Connect = Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]


class Lane(asyncio.Protocol):
    """Sends requests over one connection, which is opened when there is none.

    Parameters
    ----------
    connect : opens a connection for a protocol; raises :class:`OSError`.
    depth : requests under way at most.
    timeout : seconds without an answer, or without a connection, after which the receiver is given up.
    """

    def __init__(self, connect: Connect, *, depth: int, timeout: float) -> None:
        self._connect, self._depth, self._timeout = connect, depth, timeout
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader(self._answered)
        self._caution = self._last_caution = 0
        self._requests: Sequence[bytes] = ()
        self._answers: list[Answer] = []
        self._done: asyncio.Future[str] | None = None
        self._sent = self._flying_bytes = 0
        self._halted = self._silent = self._troubled = False
        self.stalled = False
        """Whether the last exchange ended because no answer came in time."""

    async def exchange(self, requests: Sequence[bytes]) -> tuple[list[Answer], str]:
        """Send them in order; after an answer that asks to try again, no more.

        Returns the answers, in order, and, if the connection is why there are fewer than requests, its problem.
        """
        reused = self._transport is not None
        answers, problem = await self._once(requests)
        if reused and problem and self._silent and not self.stalled:  # as a rule it was closed for being idle
            answers, problem = await self._once(requests)
        return answers, problem

    def close(self, problem: str = "the publisher is closed") -> None:
        """Drop the connection; an exchange under way ends."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if self._done is not None and not self._done.done():
            self._done.set_result(problem)

    async def _once(self, requests: Sequence[bytes]) -> tuple[list[Answer], str]:
        self._requests, self._answers = requests, []
        self._sent = self._flying_bytes = 0
        self._halted = self.stalled = False
        self._silent = True
        if problem := await self._opened():
            return [], problem
        done = self._done = asyncio.get_running_loop().create_future()
        self._watch()
        self._fill()
        try:
            return self._answers, await done
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._timer.cancel()
            self._done, self._requests = None, ()

    async def _opened(self) -> str:
        """Connect if need be; returns why it could not."""
        if self._transport is None:
            try:
                await asyncio.wait_for(self._connect(lambda: self), self._timeout)
            except asyncio.TimeoutError:
                return f"no connection within {self._timeout:g} s"
            except OSError as error:  # certificates that cannot be verified are among them
                return f"no connection: {error.strerror or error}"
        return "" if self._transport is not None else "it closed the connection at once"

    def _watch(self) -> None:
        """Give up when for so long neither an answer came nor anything could be sent."""
        before = self._progress()

        def look() -> None:
            nonlocal before
            now = self._progress()
            if now == before:
                self.stalled = True
                self._broken(f"no answer within {self._timeout:g} s")
            else:
                before = now
                self._timer = loop.call_later(self._timeout, look)

        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._timeout, look)

    def _progress(self) -> tuple[int, int]:
        unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return len(self._answers), unsent

    def _fill(self) -> None:
        """Send as many as may be under way."""
        assert self._transport is not None
        several = self._reader.pipelines and not self._caution and not self._troubled
        stop = min(len(self._answers) + (self._depth if several else 1), len(self._requests))
        batch: list[bytes] = []
        while self._sent < stop:
            request = self._requests[self._sent]
            if self._flying_bytes and self._flying_bytes + len(request) > WINDOW_BYTES:
                break
            self._flying_bytes += len(request)
            self._sent += 1
            batch.append(request)
        if batch:
            self._transport.write(batch[0] if len(batch) == 1 else b"".join(batch))

    def _answered(self, answer: Answer, goes_on: bool, times: int) -> None:
        if self._transport is None:
            return
        first = len(self._answers)
        if self._done is None or first + times > self._sent:
            self.close("it answers more than it was asked")
            return
        self._flying_bytes -= sum(map(len, self._requests[first : first + times]))
        self._answers += [answer] * times
        self._caution = max(self._caution - times, 0)
        self._halted = self._halted or answer.retried
        self._troubled = answer.retried  # what comes next is asked with a single request
        if not goes_on:
            self.close("it closed the connection")
        elif not self._halted and self._sent < len(self._requests):
            if self._sent - len(self._answers) <= self._depth // 2:
                self._fill()
        elif len(self._answers) == self._sent and not self._done.done():
            self._done.set_result("")

    def _broken(self, problem: str) -> None:
        """The connection is of no more use."""
        if self._sent - len(self._answers) > 1:
            self._last_caution = min(max(4 * self._last_caution, FIRST_CAUTION), LONGEST_CAUTION)
            self._caution = self._last_caution
        self.close(problem)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._reader = AnswerReader(self._answered)

    def data_received(self, data: bytes) -> None:
        self._silent = False
        try:
            self._reader.feed(data)
        except UnreadableError as error:
            if self._transport is not None:  # else the answer before it has closed the connection
                self._broken(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self._reader.end()
        if self._transport is not None:
            self._transport = None
            self._broken(f"the connection was lost: {exc}" if exc else "it closed the connection without an answer")

"""Accepting clients while descriptors last."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest

from monitor.capture.accepting import KEPT_BACK, Door, room
from monitor.capture.metrics import Counters, sample
from monitor.capture.reactor import Handler

PAUSES = sample("accept_pauses_total")


class Loop:
    """What the door asks of the reactor, done by hand."""

    def __init__(self) -> None:
        self.watched: dict[int, Handler] = {}
        self.due: list[Callable[[], None]] = []

    def watch(self, fd: int, _: int, handler: Handler) -> None:
        self.watched[fd] = handler

    def forget(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def close_later(self, closed: socket.socket) -> None:
        self.forget(closed.fileno())

    def call_later(self, _: float, callback: Callable[[], None]) -> None:
        self.due.append(callback)

    def turn(self) -> None:
        for number in tuple(self.watched):
            if number in self.watched:
                self.watched[number](1)


class Listener:
    """A listening socket in whose queue stand clients, and errors."""

    def __init__(self, number: int, *queue: object) -> None:
        self.number, self.queue = number, list(queue)

    def setblocking(self, _: bool) -> None: ...

    def fileno(self) -> int:
        return self.number

    def accept(self) -> tuple[object, str]:
        told = self.queue.pop(0) if self.queue else BlockingIOError()
        if isinstance(told, OSError):
            raise told
        return told, ""


def door(most: int, *listeners: Listener) -> tuple[Door, Loop, Counters, list[Any]]:
    loop, counters, inside = Loop(), Counters(), list[Any]()
    made = Door(loop, most, counters, inside.append)  # type: ignore[arg-type]
    made.open(listeners)  # type: ignore[arg-type]
    return made, loop, counters, inside


def test_who_comes_too_late_waits_until_one_leaves() -> None:
    first, second = Listener(1, "a", "b", "c", "d"), Listener(2, "e")
    made, loop, counters, inside = door(2, first, second)
    loop.turn()
    assert inside == ["a", "b"]
    assert not loop.watched, "neither listener wakes anybody"
    assert counters[PAUSES] == 1
    made.leave()
    loop.turn()
    assert inside == ["a", "b", "c"]
    assert (first.queue, second.queue) == (["d"], ["e"])
    made.leave()
    made.leave()
    loop.turn()
    assert inside == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_system_without_descriptors_is_asked_again_later(code: int, caplog: pytest.LogCaptureFixture) -> None:
    _, loop, counters, inside = door(9, Listener(1, "a", OSError(code, "nothing left"), "b"))
    loop.turn()
    assert (inside, loop.watched, counters[PAUSES]) == (["a"], {}, 1)
    assert "no client can be accepted for a moment: nothing left" in caplog.text
    loop.due.pop()()
    loop.turn()
    assert inside == ["a", "b"]


def test_a_client_that_is_gone_again_stops_nobody() -> None:
    _, loop, counters, inside = door(9, Listener(1, OSError(errno.ECONNABORTED, "gone"), "a"))
    loop.turn()
    assert (inside, counters[PAUSES]) == (["a"], 0)


def test_a_closed_door_stays_closed() -> None:
    made, loop, _, _ = door(1, Listener(1, "a", "b"))
    loop.turn()
    made.close()
    made.leave()
    assert not made.is_open
    assert not loop.watched


def test_there_is_room_for_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed, expected in ((10, 1), (KEPT_BACK + 20, 10), (1024, (1024 - KEPT_BACK) // 2)):
        monkeypatch.setattr("resource.getrlimit", lambda _, allowed=allowed: (allowed, allowed))
        assert room() == expected

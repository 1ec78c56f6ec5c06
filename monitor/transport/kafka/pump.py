"""The thread that polls: it keeps the group membership alive whatever the worker waits for, and knows what is ours."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from monitor.events import Checkpoint, Partition
from monitor.transport.base import Assigned, Block, Idle, Leaving, Quiet, Revoked, Waiting
from monitor.transport.kafka.checkpoints import States
from monitor.transport.kafka.errands import Errands
from monitor.transport.kafka.port import Member
from monitor.transport.kafka.signals import Signals
from sinks.records import Unavailable

POLL_SECONDS = 0.05
IDLE_SECONDS = 1.0
"""Between questions whether everything was read, while nothing comes."""

SOON_SECONDS = 0.2
"""The same, after something came."""

BEGIN_SECONDS = 60.0
"""How long the place to begin at may stay unknown; then the worker ends, and is started again by whoever runs it."""

HANDOVER_SECONDS = 10.0
"""How long a rebalance waits, at most, for the worker to commit the partitions that go."""

_logger = logging.getLogger("offpath.transport")


class Pump:
    """Polls a member of a group and turns what comes into signals. Implements the port's ``Rebalance``.

    Parameters
    ----------
    member, topic : who polls what.
    states : of checkpoints.
    signals : where everything goes.
    warmup : offsets to read again before the committed one.
    clock : epoch seconds, for :class:`Idle`.
    """

    def __init__(
        self,
        member: Member,
        topic: str,
        states: States,
        signals: Signals,
        *,
        warmup: int,
        handover: float = HANDOVER_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._member, self._topic, self._states, self._signals = member, topic, states, signals
        self._warmup, self._handover, self._clock = warmup, handover, clock
        self.owned: frozenset[int] = frozenset()  # replaced, never changed: the loop's thread reads it at any moment
        self.polled = time.monotonic()
        self.resume_at = 0.0
        self.handled = threading.Event()
        self.closing = threading.Event()
        self.errands = Errands(self.closing)
        self.listening = self.leaving = False
        self._paused = False
        self._rewind = False
        self._ask_at = self._look_at = 0.0
        self._fed: set[int] = set()
        self._asked = 0.0
        self._failing = 0
        self._thread = threading.Thread(target=self._run, name="offpath-kafka-poll", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def rewind(self) -> None:
        """Begin again where a restart would."""
        self._rewind = True
        self._signals.clear()

    def close(self, seconds: float) -> None:
        """Leave the group; waits at most so long for the library to do so."""
        self.closing.set()
        self.handled.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def name(self, partition: int) -> Partition:
        return f"{self._topic}/{partition}"

    def begin(self, partitions: Sequence[int]) -> Mapping[int, int]:
        deadline = time.monotonic() + BEGIN_SECONDS
        while not self.closing.is_set():
            try:
                return self._begin(partitions)
            except Unavailable as error:
                _logger.warning("the place to begin at is not known yet: %s", error)
                if time.monotonic() > deadline:
                    self._signals.end(error)
                    break
                if self._signals.empty:
                    self._signals.put(Waiting())
                self.errands.wait(1.0, self.closing)
        return {}

    def _begin(self, partitions: Sequence[int]) -> Mapping[int, int]:
        committed = self._member.committed(partitions)
        oldest, ends = self._member.starts(partitions), self._member.ends(partitions)
        starts = {}
        for partition in partitions:
            checkpoint, start = None, oldest[partition]
            if partition in committed:
                offset, text = committed[partition]
                checkpoint = Checkpoint(offset, self._states.load(partition, text))
                start = max(start, min(offset, ends[partition]) - self._warmup)
                self._warn(partition, offset, oldest[partition], ends[partition])
            else:
                self._states.load(partition, "")
            starts[partition] = start
            self.owned |= {partition}  # before it is told: whoever reads the signal may commit
            self._signals.put(Assigned(self.name(partition), checkpoint, start))
        self._look_at = time.monotonic() + IDLE_SECONDS
        return starts

    def _warn(self, partition: int, offset: int, oldest: int, end: int) -> None:
        if offset > end:
            _logger.warning("%s ends at %d, before the commit at %d", self.name(partition), end, offset)
        if offset < oldest:
            gone = oldest - offset
            _logger.warning("%s: %d records went, by its retention, before they were read", self.name(partition), gone)

    def leave(self, partitions: Sequence[int], lost: bool) -> None:
        names = [self.name(p) for p in partitions]
        self._signals.drop(names)
        if not lost and self.listening and not self.closing.is_set():
            self.handled.clear()
            self._signals.put(Leaving(tuple(names)), first=True)
            self.leaving = True
            self.errands.wait(self._handover, self.handled)
            self.leaving = False
        self.owned -= frozenset(partitions)
        for name in names:
            self._signals.put(Revoked(name), first=True)

    def _run(self) -> None:
        try:
            self._member.join(self._topic, self)
            while not self.closing.is_set():
                self._step()
        except BaseException as error:
            self._signals.end(error)
        finally:
            try:
                self._member.close()
            except Exception as error:
                _logger.warning("leaving the group: %s", error)
            self._signals.end()
            self.errands.refuse()

    def _step(self) -> None:
        self.errands.serve(0)
        self._throttle()
        if self._rewind:
            self._begin_again()
        began = time.monotonic()
        try:
            found = self._member.poll(POLL_SECONDS)
        except Unavailable as error:
            self._wait_out(error)
            return
        self.polled = time.monotonic()
        for partition, deliveries in found:
            end = max(self._member.high(partition) or 0, deliveries[-1].offset + 1)
            if not self._rewind:
                self._signals.put(Block(self.name(partition), tuple(deliveries), end))
        if found:
            self._failing = 0
            self._fed.update(partition for partition, _ in found)
            self._tell_quiet()
            self._ask_at = max(self.polled, self._asked + SOON_SECONDS)
        else:
            # kafka-python answers at once, and would be asked again at once, when a broker is missing
            self.errands.wait(POLL_SECONDS - (self.polled - began), self.closing)
            self._quiet()

    def _throttle(self) -> None:
        wanted = self._signals.full or time.monotonic() < self.resume_at
        if wanted and not self._paused:
            self._member.pause()
        elif self._paused and not wanted:
            self._member.resume()
        elif wanted:
            self._member.pause()  # partitions that came meanwhile too: all of them, or none
        self._paused = wanted

    def _begin_again(self) -> None:
        try:
            self._member.seek(self._begin(sorted(self.owned)))
        except Unavailable as error:
            self._wait_out(error)
            return
        self._rewind = False

    def _quiet(self) -> None:
        """Nothing came: say so once the brokers confirm that there is nothing."""
        now = time.monotonic()
        if now < self._ask_at or self._paused or not self._signals.empty:
            return
        self._asked, self._ask_at = now, now + IDLE_SECONDS
        if self._caught_up():
            self._signals.put(Idle(self._clock()))
        else:
            self._signals.put(Waiting())

    def _tell_quiet(self) -> None:
        """Something came: say of partitions that had nothing for a while that they have nothing, if it is so."""
        now = time.monotonic()
        if now < self._look_at:
            return
        wanted, self._fed, self._look_at = self.owned - self._fed, set(), now + IDLE_SECONDS
        if wanted and not self._rewind and (quiet := self._read_out(wanted)):
            self._signals.put(Quiet(tuple(self.name(p) for p in quiet), self._clock()))

    def _caught_up(self) -> bool:
        owned = self.owned
        return bool(owned) and self._read_out(owned) == sorted(owned)

    def _read_out(self, partitions: Collection[int]) -> list[int]:
        """Those in which nothing is left to read."""
        try:
            ends = self._member.ends(sorted(partitions))
            positions = self._member.positions()
        except Unavailable as error:
            self._tell(error)
            return []
        self._failing = 0
        return sorted(partition for partition, end in ends.items() if positions.get(partition, -1) >= end)

    def _wait_out(self, error: Unavailable) -> None:
        self._tell(error)
        if self._signals.empty:
            self._signals.put(Waiting())
        self.errands.wait(1.0, self.closing)

    def _tell(self, error: Unavailable) -> None:
        """The first of a row of failures, and every hundredth."""
        if self._failing % 100 == 0:
            _logger.warning("cannot read, trying again: %s", error)
        self._failing += 1

    def names(self) -> Collection[Partition]:
        """The partitions that are ours."""
        return [self.name(partition) for partition in self.owned]

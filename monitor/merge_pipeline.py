"""Records of the topic of summaries in, findings out: what :class:`~monitor.pipeline.Pipeline` is to payloads. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from monitor.events import Checkpoint, Delivery, Partition, Record
from monitor.findings import MonitorSpec
from monitor.merging import Merger
from monitor.outcome import Outcome
from monitor.parts import Part, from_record
from monitor.progress import Progress

_NO_RECORD = Record(None, {}, b"", 0.0)

PATIENCE_SECONDS = 10.0

FOREIGN = "foreign_summary"
"""A summary of a monitor that is not configured here, or not so: of before a change of the configuration."""


class _State(Progress):
    """What is remembered of one partition of the topic."""

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        super().__init__(checkpoint)
        self.mergers: dict[str, Merger] = {}


class MergePipeline:
    """Merges the windows of all monitors over all assigned partitions of the topic of summaries.

    Parameters
    ----------
    specs : the monitors; those that do not merge are left out.
    partitions : of the payload topic: all of them have to speak.
    patience : see :class:`~monitor.merging.Merger`.
    """

    def __init__(
        self, specs: Sequence[MonitorSpec], partitions: Collection[Partition], patience: float = PATIENCE_SECONDS
    ) -> None:
        self._patience = patience
        self._specs = {spec.name: spec for spec in specs if spec.summariser is not None}
        self._expected = partitions
        self._partitions: dict[Partition, _State] = {}

    def assign(self, partition: Partition, checkpoint: Checkpoint | None) -> None:
        """Begin with the partition, where the checkpoint says or at its first record."""
        self._partitions[partition] = _State(checkpoint)

    def revoke(self, partition: Partition) -> None:
        """Forget the partition: somebody else has it."""
        self._partitions.pop(partition, None)

    def process(self, partition: Partition, deliveries: Iterable[Delivery]) -> Outcome:
        """Merge consecutive deliveries of an assigned partition."""
        state, outcome = self._partitions[partition], Outcome.empty()
        for delivery in deliveries:
            try:
                self._take(state, from_record(delivery.record), delivery, outcome)
            except Exception as error:
                state.reject(delivery, error, outcome)
            state.position = delivery.offset
        state.passed()
        self._count_waiting(outcome)
        return outcome

    def _count_waiting(self, outcome: Outcome) -> None:
        waiting = outcome.tally.waiting
        waiting.update(dict.fromkeys(self._specs, 0))  # also of monitors that are another worker's now
        for state in self._partitions.values():
            waiting.update({name: merger.waiting for name, merger in state.mergers.items()})

    def merge(self, partition: Partition, parts: Iterable[Part]) -> Outcome:
        """:meth:`process` of parts that never were records, as when a log is replayed."""
        state, outcome = self._partitions[partition], Outcome.empty()
        for part in parts:
            self._take(state, part, Delivery(partition, state.next, _NO_RECORD), outcome)
            state.next += 1
        return outcome

    def _take(self, state: _State, part: Part, delivery: Delivery, outcome: Outcome) -> None:
        fresh, tally = delivery.offset >= state.resumed, outcome.tally
        merger = self._merger(state, part.monitor)
        if merger is None or not merger.concerns(part):
            tally.skipped[FOREIGN] += fresh
            return
        taken = merger.take(part, delivery.offset, delivery.record.timestamp)
        if part.batch is not None and fresh:
            tally.summaries[part.monitor, taken] += 1
            tally.late[part.monitor] += part.summary.n if taken == "late" else 0
        outcome.findings.extend(merger.due())
        tally.seconds.extend((part.monitor, seconds) for seconds in merger.seconds)
        merger.seconds.clear()

    def _merger(self, state: _State, name: str) -> Merger | None:
        if name not in state.mergers:
            if name not in self._specs:
                return None
            spec = self._specs[name]
            state.mergers[name] = Merger(spec, self._expected, state.saved.get(name), self._patience)
        return state.mergers[name]

    def expire(self, now: float) -> Outcome:  # noqa: ARG002 - the same as the other pipeline, which has a clock
        """Judges nothing: partitions say themselves when a window of theirs is over."""
        outcome = Outcome.empty()
        self._count_waiting(outcome)
        return outcome

    def quiet(self, partitions: Iterable[Partition], now: float) -> Outcome:  # noqa: ARG002 - the same
        """Nothing, for the same reason."""
        return Outcome.empty()

    def checkpoint(self, partition: Partition) -> Checkpoint | None:
        """Where to resume, or ``None`` while the state of the last checkpoint is still being rebuilt."""
        state = self._partitions[partition]
        mergers = state.mergers
        lows = [merger.low() for merger in mergers.values()]
        return state.checkpoint(lows, {name: merger.state() for name, merger in mergers.items()}, self._specs)

    def fill(self) -> Mapping[str, float]:
        """Nothing: windows fill where the rows are."""
        return {}

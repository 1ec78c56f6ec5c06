"""How far a partition was read, what its checkpoints say of that, and what is told of records that failed. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from monitor.events import Checkpoint, DeadLetter, Delivery, InvalidEvent
from monitor.outcome import Outcome


class Progress:
    """Of one partition, from where its last checkpoint was made.

    Parameters
    ----------
    checkpoint : the last one, or ``None`` to begin with the partition's first record.
    """

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        saved = json.loads(checkpoint.state) if checkpoint and checkpoint.state else {}
        self.resumed = int(saved.get("next", checkpoint.offset if checkpoint else 0))
        """What comes before this offset was told before the restart, and only rebuilds windows."""
        self.next = self.resumed
        self.position = -1
        self.saved: Mapping[str, Any] = saved.get("monitors", {})

    def passed(self) -> None:
        """Everything up to the position is dealt with."""
        self.next = max(self.next, self.position + 1)

    def reject(self, delivery: Delivery, error: Exception, outcome: Outcome, model: str = "") -> None:
        """Count a record that cannot be used and write a dead letter, unless that was done before the restart.

        Anything but an :class:`InvalidEvent` is a defect of ours: one record must not stop all that come after it.
        """
        if delivery.offset < self.resumed:
            return
        if not isinstance(error, InvalidEvent):
            error = InvalidEvent("internal_error", f"please report this: {type(error).__name__}: {error}")
        outcome.tally.invalid[error.reason] += 1
        outcome.dead_letters.append(DeadLetter(delivery, error.reason, str(error), model))

    def checkpoint(
        self, lows: Iterable[int | None], states: Mapping[str, object], known: Collection[str]
    ) -> Checkpoint | None:
        """Where to resume, or ``None`` while the state of the last checkpoint is still being rebuilt.

        Parameters
        ----------
        lows : of every open window, the lowest offset that it needs; ``None`` of one that needs nothing.
        states : of the monitors that have had records; the others' stay as the last checkpoint had them.
        known : names of all monitors; what is remembered of others is forgotten.
        """
        if self.position + 1 < self.resumed:
            return None
        needed = [low for low in lows if low is not None]
        saved = {name: state for name, state in self.saved.items() if name in known}
        text = json.dumps({"next": self.next, "monitors": {**saved, **states}}, separators=(",", ":"))
        return Checkpoint(min(needed, default=self.next), text)

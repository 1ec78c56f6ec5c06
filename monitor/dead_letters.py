"""Records of dead letters: the original, and why it could not be used. Pure."""

from __future__ import annotations

from monitor.events import DeadLetter, Record

CUT = "offpath-cut"
"""Header of a dead letter that holds only the first :data:`CUT_BYTES` of the original, with the original's size."""

CUT_BYTES = 64 * 1024


def cut(record: Record) -> Record:
    value = record.value or b""
    return record._replace(value=value[:CUT_BYTES], headers={**record.headers, CUT: f"of {len(value)} bytes"})


def place_of(letter: DeadLetter) -> str:
    return f"{letter.delivery.partition}:{letter.delivery.offset}"


def dead_letter_record(letter: DeadLetter) -> Record:
    """The original bytes and headers, with the reason, the message, the position and for whom it was."""
    record = letter.delivery.record
    told = {
        "offpath-reason": letter.reason,
        "offpath-error": letter.message[:1000].encode(errors="replace").decode(),  # it may cite half a character
        "offpath-position": place_of(letter),
        "offpath-monitor": letter.monitor,
    }
    return Record(record.key, {**record.headers, **told}, record.value or b"", record.timestamp)

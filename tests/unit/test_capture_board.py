"""The board between two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from monitor.capture.board import SAMPLES, Board, Notice

WRITER = """
import os, sys, time
from monitor.capture.board import SAMPLES, Board
board = Board(int(sys.argv[1]))
number = 0
print("ready", flush=True)
while True:
    number += 1
    board.write(number, number, dict.fromkeys(SAMPLES, number))
"""


def test_what_a_killed_writer_wrote_last_can_be_read() -> None:
    """And it is of one piece: no counter is newer than another."""
    descriptor = Board.make()
    board = Board(descriptor)
    for _ in range(5):
        line = [sys.executable, "-c", WRITER, str(descriptor)]
        writer = subprocess.Popen(line, pass_fds=(descriptor,), stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        while board.read().settled < 50:
            pass
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        told = board.read()
        assert told.settled >= 50
        assert {told.settled, told.open, *map(int, told.counters.values())} == {told.settled}
        board.clear()
    os.close(descriptor)


def test_a_board_holds_every_counter_and_nothing_else() -> None:
    board = Board(Board.make())
    assert board.read() == Notice(0, 0, dict.fromkeys(SAMPLES, 0.0))
    board.write(2**40, 1, {SAMPLES[3]: 2.0**50, "nothing": 1.0})
    told = board.read()
    assert (told.settled, told.open, told.counters[SAMPLES[3]]) == (2**40, 1, 2.0**50)
    assert "nothing" not in told.counters

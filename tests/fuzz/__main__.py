"""Coverage-guided fuzzing: ``python -m tests.fuzz TARGET SECONDS [CORPUS...]``. Needs the extra ``fuzz`` (atheris)."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

TARGETS = ("http1", "inflate", "redaction")


def main(target: str, seconds: str, *more: str) -> None:
    """Run one target for so long; what it finds is written to the working directory, as libFuzzer does."""
    with atheris.instrument_imports(include=["monitor", "tests.fuzz"]):
        module = __import__(f"tests.fuzz.{target}", fromlist=["run"])
    corpus = list(more) or [str(Path(__file__).parent / "corpus" / target)]
    arguments = [sys.argv[0], f"-max_total_time={seconds}", f"-max_len={module.MAX_INPUT}", "-timeout=10", *corpus]
    atheris.Setup(arguments, module.run)
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"{__doc__}\nTargets: {', '.join(TARGETS)}")
    main(*sys.argv[1:])

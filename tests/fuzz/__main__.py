"""Coverage-guided fuzzing: ``python -m tests.fuzz TARGET SECONDS``. Needs the extra ``fuzz`` (atheris).

It begins with the seeds, and with what earlier runs reached (``corpus/TARGET.tar.gz``). New inputs and findings go to
``.fuzz/``. ``python -m tests.fuzz TARGET keep`` packs them for the next ones.
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

TARGETS = ("http1", "http2", "inflate", "protobuf", "redaction")
CORPUS = Path(__file__).parent / "corpus"
KEPT_BYTES = 1500
"""What a kept input may be at most."""


def fuzz(target: str, *options: str) -> None:
    """Run libFuzzer on a target; does not return."""
    import atheris

    with atheris.instrument_imports(include=["monitor", "tests.fuzz"]):
        module = __import__(f"tests.fuzz.{target}", fromlist=["run"])
    atheris.Setup([sys.argv[0], f"-max_len={module.MAX_INPUT}", "-timeout=10", *options], module.run)
    atheris.Fuzz()


def unpack(target: str) -> Path:
    """The folder of a target's inputs, with what earlier runs reached in it."""
    folder = Path(".fuzz") / target
    folder.mkdir(parents=True, exist_ok=True)
    archive = CORPUS / f"{target}.tar.gz"
    if archive.exists():
        with tarfile.open(archive) as kept:
            for member in kept:
                opened = kept.extractfile(member)
                if opened is not None:
                    (folder / Path(member.name).name).write_bytes(opened.read())
    return folder


def keep(target: str) -> None:
    """Pack the small ones of the inputs that reached something."""
    inputs = sorted(unpack(target).iterdir())
    with tarfile.open(CORPUS / f"{target}.tar.gz", "w:gz") as archive:
        for path in inputs:
            told = tarfile.TarInfo(path.name[:16])
            told.size = path.stat().st_size
            if told.size <= KEPT_BYTES:
                with path.open("rb") as opened:
                    archive.addfile(told, opened)


def main(target: str, *what: str) -> None:
    """Fuzz for so many seconds, pack, or pass options on to libFuzzer."""
    if what == ("keep",):
        keep(target)
    elif len(what) == 1 and what[0].isdigit():
        prefix = f"-artifact_prefix=.fuzz/{target}-"
        fuzz(target, f"-max_total_time={what[0]}", prefix, str(unpack(target)), str(CORPUS / target))
    else:
        fuzz(target, *what)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"{__doc__}\nTargets: {', '.join(TARGETS)}")
    main(*sys.argv[1:])

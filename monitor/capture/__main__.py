"""Where the sidecar's two processes begin. Run by its path, so that no file of the working directory is imported."""

import sys
from pathlib import Path


def main(role: str, *descriptors: str) -> int:
    """Run as ``relay PLAN`` or ``shipper PLAN SOCKET``; the arguments are inherited descriptors."""
    if role == "relay":
        from monitor.capture import sidecar

        return sidecar.main(*map(int, descriptors))
    from monitor.capture import shipper

    return shipper.main(*map(int, descriptors))


if __name__ == "__main__":
    del sys.path[0]  # this file's directory
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    raise SystemExit(main(*sys.argv[1:]))

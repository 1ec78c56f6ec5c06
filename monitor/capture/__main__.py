"""Where the sidecar's processes begin. Run by its path, so that no file of the working directory is imported."""

import os
import sys


def main(role: str, *arguments: str) -> int:
    """Run as ``relay PLAN``, ``worker PLAN LISTENER... BOARD HEAD NUMBER`` or ``shipper PLAN BOARD TAP NUMBER``.

    All but the number are inherited descriptors.
    """
    numbers = [int(argument) for argument in arguments]
    if role == "shipper":
        from monitor.capture import shipper

        return shipper.main(*numbers)
    from monitor.capture import processes

    if role == "worker":
        plan, *listening, board, head, number = numbers
        return processes.worker(plan, number, listening, board, head)
    return processes.main(*numbers)


if __name__ == "__main__":
    del sys.path[0]  # this file's directory
    sys.path.append(os.path.abspath(__file__).rpartition("/monitor/")[0])  # noqa: PTH100 - pathlib costs a megabyte
    raise SystemExit(main(*sys.argv[1:]))

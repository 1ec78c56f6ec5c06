"""``offpath demo``: the whole path on real data, from the first request to the alarm."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.examples.demo import Plan
    from monitor.examples.outcome import Summary
    from monitor.examples.stack import Stack
    from monitor.examples.story import Story
    from monitor.examples.view import View

HELP = "run a model, a sidecar and a worker on real data, and watch the alarm come"
EXAMPLE = """examples:
  offpath demo                   UCI Adult; goes on after the alarm, until Ctrl-C
  offpath demo --once --json     ends by itself; exit status 0 if all was as it should be
  offpath demo tumour            scikit-learn's bundled data, needs no download"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("example", nargs="?", choices=("income", "tumour"), default="income", help="default: income")
    parser.add_argument("--once", action="store_true", help="end after the story")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, as the last line")
    parser.add_argument("--seed", type=_seed, default=1, help="same seed, same requests (default: %(default)s)")
    parser.add_argument("--rate", type=_rate, default=250.0, help="requests a second at most (default: %(default)s)")
    parser.add_argument(
        "--dir", type=Path, help="keep configuration, artefacts and logs here (default: a temporary one)"
    )


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return rate


def run(args: argparse.Namespace) -> int:
    import signal
    import sys
    import tempfile
    from contextlib import ExitStack

    from rich.console import Console

    from monitor.examples.demo import Plan
    from monitor.examples.processes import overrides
    from monitor.examples.view import View

    for number in _ends():
        signal.signal(number, signal.default_int_handler)
    plan = Plan(seed=args.seed, rate=args.rate)
    view = View(Console(file=sys.stderr if args.json else sys.stdout), plan.clean + plan.shifted)
    with ExitStack() as stack:
        folder = args.dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="offpath-demo-")))
        _fresh(folder)
        for variable in overrides():
            print(f"offpath demo has a configuration of its own, and ignores {variable}", file=sys.stderr)
        summary = _tell(args.example, plan, folder, view, once=args.once)
    if summary is None:
        return 130
    if args.json:
        import json

        print(json.dumps(summary.to_dict()), flush=True)
    return 0 if summary.well else 1


def _ends() -> list[int]:
    """Signals that end the demo: a supervisor's stop and a closed terminal are as good as Ctrl-C, but under nohup."""
    import signal

    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]


def _fresh(folder: Path) -> None:
    """A folder without anything of another run, or of the user's own, that this one would judge again or replace."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("log.db", "demo.yaml", "artefacts", "findings.db"):
        if (folder / name).exists():
            raise ValueError(f"{folder} holds {name} already; give another --dir, or remove it")


def _tell(example: str, plan: Plan, folder: Path, view: View, *, once: bool) -> Summary | None:
    """Run the story; ``None`` if it was interrupted before it was told."""
    import asyncio

    from monitor.examples.stack import Stack

    told: list[Summary] = []
    try:
        with view.working("starting"):
            story = _story(example, view)
            stack = Stack(story, folder, plan.window, view.say)
        with stack:
            view.begin(stack.addresses, story.shift_text)
            asyncio.run(_run(story, plan, stack, view, told, once=once))
    except KeyboardInterrupt:
        view.end()
        view.say("stopped")
    finally:
        view.end()
    return told[0] if told else None


def _story(example: str, view: View) -> Story:
    from monitor.examples import story
    from monitor.examples.data import DataUnavailable

    try:
        return story.load(example, view.say)
    except DataUnavailable as error:
        view.say(f"UCI Adult cannot be had, so the example is tumour: {error}")
        return story.load("tumour")


async def _run(story: Story, plan: Plan, stack: Stack, view: View, told: list[Summary], *, once: bool) -> None:
    """Until the end, or until a signal: that cancels, so that nothing is left half done."""
    import asyncio

    from monitor.examples import demo

    def conclude(summary: Summary) -> None:
        told.append(summary)
        view.conclude(summary)
        if not once:
            view.say("the traffic goes on; Ctrl-C ends it")

    task = asyncio.create_task(demo.run(story, plan, stack, view.update, conclude, once=once))
    for number in _ends():
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        view.end()
        view.say("stopped")

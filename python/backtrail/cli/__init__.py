"""The command line: `backtrail train`, `backtrail sample`, `backtrail info`, `backtrail new-op`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from backtrail import __version__, _quiet

from . import info, new_op, sample, train
from .arguments import Parser, UserError
from .output import discard, lasting, stand_in


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 (training failed), 2 (wrong use) or 128 + a signal's number."""
    try:
        _quiet.end()
        parser = Parser(
            prog="backtrail",
            description="Train a small GPT on names, lines or running text of your own, and let it "
            "invent more; start a package with an operation of your own.",
            epilog="Start with: backtrail train",
        )
        parser.set_defaults(lasting=False)
        version = f"backtrail {__version__}"
        parser.add_argument("--version", action="version", version=version, help="show the version")
        commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        for command in (train, sample, info, new_op):
            command.add_parser(commands)
        stand_in()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # what it cannot show is no reason to stop
                stream.reconfigure(errors="backslashreplace")
        args = parser.parse(argv)
        with lasting() if args.lasting else contextlib.nullcontext():
            status: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # `backtrail sample ... | head` has seen enough
        discard(sys.stdout)
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted", _quiet.INTERRUPTED)
    except FloatingPointError as error:
        return _fail(str(error), 1)
    except MemoryError as error:
        return _fail(str(error) or "out of memory", 1)
    except UserError as error:
        return _fail(str(error), 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", 2)
    return status


def _fail(message: str, status: int) -> int:
    with contextlib.suppress(OSError):
        print(f"backtrail: {' '.join(message.split())}", file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            discard(stream)
    return status

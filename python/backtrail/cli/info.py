"""`backtrail info`: version, instruction set, threads and build."""

from __future__ import annotations

import argparse

import backtrail as bt

from .arguments import Commands, Parser


def add_parser(commands: Commands[Parser]) -> None:
    parser = commands.add_parser(
        "info",
        help="show version, instruction set, threads and build",
        description="Show what a report of a problem or of a speed should say about this machine.",
    )
    parser.set_defaults(run=run)


def machine() -> str:
    """Return version, instruction set and threads in a few words."""
    return f"Backtrail {bt.__version__}, {bt.get_num_threads()} threads"


def run(args: argparse.Namespace) -> int:
    print(machine())
    return 0

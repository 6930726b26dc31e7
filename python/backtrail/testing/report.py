"""What `opcheck` found: one line a check, as a table that a person reads."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

PASS, FAIL, SKIP, NOTE = "pass", "FAIL", "skip", "note"
_COLOURS = {PASS: "32", FAIL: "1;31", SKIP: "2", NOTE: "33"}


class Result(NamedTuple):
    """The outcome of one check.

    `verdict` is "pass", "FAIL", "skip" (it could not be done) or "note" (it passed; look at it all
    the same). `error` is the largest error as text, `where` its place, or the reason.
    """

    check: str
    verdict: str
    error: str = ""
    where: str = ""


class Report:
    """The results of all checks of one op; its text is a table.

    `report["value"]` is the result of one check, `report.passed` whether none failed.
    """

    def __init__(self, name: str, samples: Sequence[str], results: Sequence[Result]) -> None:
        self.name = name
        self.samples = tuple(samples)
        self.results = tuple(results)

    @property
    def passed(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> tuple[Result, ...]:
        return tuple(r for r in self.results if r.verdict == FAIL)

    def __getitem__(self, check: str) -> Result:
        for result in self.results:
            if result.check == check:
                return result
        names = ", ".join(r.check for r in self.results)
        raise KeyError(f"opcheck: no check {check!r}; there are {names}")

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        """The table, in colour on a terminal (the environment's NO_COLOR turns that off)."""
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        return self.text(shutil.get_terminal_size((100, 24)).columns, colour)

    def text(self, width: int = 100, colour: bool = False) -> str:
        """Return the table in lines of at most `width` columns (and no fewer than 60)."""
        count = {v: sum(r.verdict == v for r in self.results) for v in _COLOURS}
        summary = f"{count[FAIL]} failed, {count[PASS] + count[NOTE]} passed"
        summary += f", {count[SKIP]} skipped" if count[SKIP] else ""
        summary += f", {count[NOTE]} of them with a note" if count[NOTE] else ""
        lines = _wrapped(f"opcheck {self.name}: {summary}", width, "  ")
        for sample in self.samples:
            lines += _wrapped(f"  on {sample}", width, "     ")
        rows = [("check", "verdict", "worst error", "where, or why"), *self.results]
        sizes = [max(len(row[i]) for row in rows) for i in range(3)]
        left = sum(sizes) + 2 * 3
        room = max(width, 60) - left
        lines.append("")
        for k, row in enumerate(rows):
            parts = _wrapped(row[3], room, "") or [""]
            head = [row[i].ljust(sizes[i]) for i in range(3)]
            if colour and k:
                head[1] = f"\033[{_COLOURS[row[1]]}m{head[1]}\033[0m"
            lines.append(("  ".join(head) + "  " + parts[0]).rstrip())
            lines += [" " * left + part for part in parts[1:]]
            if not k:
                lines.append("  ".join("-" * n for n in (*sizes, min(room, 30))))
        return "\n".join(lines)


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    lines: list[str] = []
    for line in text.splitlines():
        lines += textwrap.wrap(line, max(width, 20), subsequent_indent=indent) or [""]
    return lines

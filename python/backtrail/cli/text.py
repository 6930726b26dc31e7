"""Text on its way in and out: reading data, taking it as lines or running text, showing it."""

from __future__ import annotations

import textwrap
import unicodedata
from pathlib import Path
from typing import NamedTuple

from backtrail.examples import gpt

from .arguments import UserError

WIDTH = 80  # of all that is printed
INDENT = 9


class Corpus(NamedTuple):
    """What is learned from, and what is held out to see whether more than that was learned.

    Both are lists of documents; running text is one document.
    """

    kind: str  # "lines" or "windows"
    documents: list[str]
    held_out: list[str]

    @property
    def characters(self) -> set[str]:
        """All that occur."""
        return set().union(*self.documents, *self.held_out)


def read(path: Path) -> str:
    """Return the text of a file; raise UserError where it has none."""
    if path.is_char_device() or path.is_block_device():  # that never ends
        raise UserError(f"--data: {path} is a device; give a text file")
    try:
        text = gpt.read_text(path)
    except FileNotFoundError:
        raise UserError(f"--data: there is no file {path}") from None
    except IsADirectoryError:
        raise UserError(f"--data: {path} is a folder; give a text file") from None
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {error.object[error.start]:#04x}"
        raise UserError(f"--data: {path} is not UTF-8 text ({byte})") from None
    except OSError as error:
        raise UserError(f"--data: cannot read {path}: {error.strerror}") from None
    if not text.strip():
        why = "has only blank lines" if text else "is empty"
        raise UserError(f"--data: {path} {why}; give a text file with one document a line")
    return text


def kind_of(text: str, block_size: int) -> str:
    """Return "windows" for text of which most lines are too long to be seen whole."""
    lines = gpt.documents_of(text)
    longer = sum(len(line) >= block_size for line in lines)
    return "windows" if 2 * longer > len(lines) else "lines"


def corpus(text: str, kind: str, share: float, seed: int) -> Corpus:
    """Hold out a share: of running text its end, of documents some that the seed draws."""
    if kind == "windows":
        begin = len(text) - round(share * len(text))
        if len(text) - begin < 2:
            begin = len(text)
        return Corpus(kind, [text[:begin]], [text[begin:]] if begin < len(text) else [])
    import random

    documents = gpt.documents_of(text)
    chosen = set(random.Random(seed).sample(range(len(documents)), round(share * len(documents))))
    return Corpus(
        kind,
        [text for i, text in enumerate(documents) if i not in chosen],
        [documents[i] for i in sorted(chosen)],
    )


def printable(text: str) -> str:
    """Return text without what a terminal would obey: control characters become escapes.

    So do those that turn the direction of writing. Newlines and tabs stay.
    """
    return "".join(
        ascii(c)[1:-1]
        if c not in "\n\t" and (unicodedata.category(c) == "Cc" or c in TURNING)
        else c
        for c in text
    )


TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def entry(label: str, text: str, indent: int = INDENT) -> str:
    """Return lines of at most 80 columns: a label, and text in a column of its own.

    A word that is longer than a line, such as a path, is left whole.
    """
    return textwrap.fill(
        f"{label:{indent}s}{printable(text)}",
        WIDTH,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )

"""`backtrail sample`: let a trained model invent lines, or go on writing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import backtrail as bt
from backtrail.examples import gpt
from backtrail.serialization import CheckpointError, load

from .arguments import SEED, Commands, Parser, UserError, integer, number
from .settings import SHAPE, check_settings, check_weights
from .text import printable

LINES, CHARACTERS = 20, 500  # that are printed unless told otherwise


class Trained(NamedTuple):
    """A trained model, how it reads characters, and what it was trained on."""

    model: gpt.GPT
    tokenizer: gpt.Tokenizer
    kind: str  # "lines" or "windows"


def add_parser(commands: Commands[Parser]) -> None:
    parser = commands.add_parser(
        "sample",
        help="let a trained model invent lines, or write",
        description="Print what a model invents that `backtrail train` left behind: lines, or "
        "running text if it was trained on that.",
    )
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="the model, such as names.safetensors"
    )
    parser.add_argument("--prompt", default="", metavar="TEXT", help="how it begins []")
    parser.add_argument(
        "--temperature",
        type=number(0, inclusive=True),
        default=0.5,
        metavar="T",
        help="0 always takes the likeliest character, 1 draws each as often as the model expects "
        "it, more is wilder [0.5]",
    )
    parser.add_argument(
        "--n", type=integer(1), metavar="N", help=f"lines to print [{LINES}], or texts [1]"
    )
    parser.add_argument(
        "--length",
        type=integer(1),
        default=CHARACTERS,
        metavar="N",
        help=f"characters of running text [{CHARACTERS}]; a line ends by itself",
    )
    parser.add_argument(
        "--seed", type=SEED, default=42, metavar="N", help="another seed, other lines [42]"
    )


def run(args: argparse.Namespace) -> int:
    trained, _ = read_run(args.checkpoint)
    bt.manual_seed(args.seed)
    check_prompt(trained, args.prompt)
    if trained.kind == "lines":
        for line in lines(trained, args.prompt, args.temperature, args.n or LINES):
            print(printable(line))
        return 0
    for i in range(args.n or 1):
        if i:
            print("-" * 20)
        for piece in writing(trained, args.prompt, args.temperature, args.length):
            print(printable(piece), end="", flush=True)
        print()
    return 0


def check_prompt(trained: Trained, prompt: str) -> None:
    """Raise UserError for a prompt that the model cannot read."""
    model, tokenizer, kind = trained
    unknown = sorted(set(prompt) - set(tokenizer.characters))
    if unknown:
        known = printable("".join(tokenizer.characters)).replace("\n", r"\n")
        raise UserError(
            f"--prompt: the model never saw {' '.join(repr(printable(c)) for c in unknown)}; it "
            f"knows {known:.200}"
        )
    if kind == "lines" and len(prompt) >= model.block_size:
        raise UserError(
            f"--prompt has {len(prompt)} characters; the model can look at {model.block_size}, "
            f"so it may have {model.block_size - 1} at most"
        )


def lines(trained: Trained, prompt: str, temperature: float, n: int) -> Iterator[str]:
    """Yield `n` lines that begin with `prompt`."""
    model, tokenizer, _ = trained
    tokens = [tokenizer.bos, *tokenizer.encode(prompt)]
    for _ in range(n):
        yield prompt + tokenizer.decode(model.generate(tokens, tokenizer.bos, temperature))


def writing(trained: Trained, prompt: str, temperature: float, length: int) -> Iterator[str]:
    """Yield `length` characters of running text, piece by piece, after `prompt` where given.

    The model looks at its last `block_size` characters. When they are full, it goes on from the
    later half of them.
    """
    model, tokenizer, _ = trained
    yield prompt
    begin = "\n" if "\n" in tokenizer.ids else tokenizer.characters[0]
    tokens = tokenizer.encode(prompt or begin)
    half = max(1, model.block_size // 2)
    while length > 0:
        tokens = tokens[-half:]
        drawn = model.generate(tokens, tokenizer.bos, temperature)[:length]
        if not drawn:  # it was BOS, which running text does not have
            drawn = tokenizer.encode(begin)
        yield tokenizer.decode(drawn)
        tokens = tokens + drawn
        length -= len(drawn)


def read_run(path: Path) -> tuple[Trained, dict[str, Any]]:
    """Return the model in a checkpoint of `backtrail train`, and the settings of its run."""
    try:
        state = load(path)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}; `backtrail train` makes one") from None
    except CheckpointError as error:
        raise UserError(str(error)) from None
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a checkpoint of `backtrail train`")
    extra = state.get("extra")
    if not isinstance(extra, dict) or not isinstance(extra.get("characters"), str):
        raise UserError(f"{path} is not a checkpoint of `backtrail train`: it lacks 'extra'")
    settings = check_settings(path, extra.get("settings"))
    tokenizer = gpt.Tokenizer(extra["characters"])
    check_weights(path, state.get("model"), settings, tokenizer.vocab_size)
    try:
        model = gpt.GPT(tokenizer.vocab_size, **{key: settings[key] for key in SHAPE})
        model.load_state_dict(state["model"])
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a checkpoint of `backtrail train`: {error}") from None
    return Trained(model, tokenizer, settings["text"]), settings

"""`backtrail sample`: let a trained model invent lines."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import backtrail as bt
from backtrail.examples import gpt
from backtrail.serialization import CheckpointError, load

from .arguments import SEED, Commands, Parser, UserError, integer, number
from .settings import check_settings, check_weights


class Run(NamedTuple):
    """A trained model and how it reads characters."""

    model: gpt.GPT
    tokenizer: gpt.Tokenizer


def add_parser(commands: Commands[Parser]) -> None:
    parser = commands.add_parser(
        "sample",
        help="let a trained model invent lines",
        description="Print lines invented by a model that `backtrail train` left behind.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="the model, such as names.safetensors"
    )
    parser.add_argument("--prompt", default="", metavar="TEXT", help="how each line begins []")
    parser.add_argument(
        "--temperature",
        type=number(0, inclusive=True),
        default=0.5,
        metavar="T",
        help="0 always takes the likeliest character, 1 draws each as often as the model expects "
        "it, more is wilder [0.5]",
    )
    parser.add_argument("--n", type=integer(1), default=20, metavar="N", help="lines to print [20]")
    parser.add_argument(
        "--seed", type=SEED, default=42, metavar="N", help="another seed, other lines [42]"
    )


def run(args: argparse.Namespace) -> int:
    trained, _ = read_run(args.checkpoint)
    bt.manual_seed(args.seed)
    for line in sample(trained, args.prompt, args.temperature, args.n):
        print(line)
    return 0


def sample(run: Run, prompt: str, temperature: float, n: int) -> Iterator[str]:
    """Yield `n` lines that begin with `prompt`."""
    model, tokenizer = run
    unknown = sorted(set(prompt) - set(tokenizer.characters))
    if unknown:
        raise UserError(
            f"--prompt: the model never saw {' '.join(map(repr, unknown))}; it knows "
            f"{''.join(tokenizer.characters):.200}"
        )
    if len(prompt) >= model.block_size:
        raise UserError(
            f"--prompt has {len(prompt)} characters; the model can look at {model.block_size}, "
            f"so it may have {model.block_size - 1} at most"
        )
    tokens = [tokenizer.bos, *tokenizer.encode(prompt)]
    for _ in range(n):
        yield prompt + tokenizer.decode(model.generate(tokens, tokenizer.bos, temperature))


def read_run(path: Path) -> tuple[Run, dict[str, Any]]:
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
        shape = {key: settings[key] for key in ("block_size", "n_embd", "n_head", "n_layer")}
        model = gpt.GPT(tokenizer.vocab_size, **shape)
        model.load_state_dict(state["model"])
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a checkpoint of `backtrail train`: {error}") from None
    return Run(model, tokenizer), settings

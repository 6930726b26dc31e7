"""`backtrail train`: train a GPT on the lines of a text file."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import backtrail as bt
from backtrail.examples import gpt
from backtrail.serialization import CheckpointError, check_writable
from backtrail.train import History, Interrupted, fit

from .arguments import SEED, Commands, Parser, UserError, integer, number
from .info import machine
from .plot import save_loss_curve
from .sample import Run, read_run, sample
from .settings import DEFAULTS, LARGEST_BATCH

CHECKPOINT_EVERY = 250


def add_parser(commands: Commands[Parser]) -> None:
    parser = commands.add_parser(
        "train",
        help="train a GPT on names, or on the lines of your own file",
        description="Train a small GPT to invent lines like those of a text file: first names, "
        "unless you give a file. Takes about a second, prints twenty inventions, and leaves a "
        "checkpoint.",
        epilog="Ctrl-C stops the run and saves it; the same command with --resume goes on.",
    )
    parser.set_defaults(run=run, lasting=True)  # also when no one reads what it says

    files = parser.add_argument_group("files")
    files.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="text to learn from (UTF-8), one document a line [5,163 first names]",
    )
    files.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to keep the trained model [names.safetensors, or named after --data]; a "
        "picture of the loss goes beside it",
    )
    files.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run kept in --out, to the same result as if it had never stopped",
    )

    def add(group: Any, flag: str, kind: Any, metavar: str, text: str) -> None:
        default = DEFAULTS[flag.removeprefix("--").replace("-", "_")]
        group.add_argument(flag, type=kind, metavar=metavar, help=f"{text} [{default}]")

    training = parser.add_argument_group("training")
    add(training, "--steps", integer(1), "N", "how many times to adjust the weights")
    add(
        training, "--batch-size", integer(1, LARGEST_BATCH), "N", "documents looked at in each step"
    )
    rate = "learning rate: how far a step moves the weights at first; it falls to 0 at the end"
    add(training, "--lr", number(0, inclusive=False), "RATE", rate)
    add(training, "--seed", SEED, "N", "the same seed gives the same run; another, another")
    training.add_argument(
        "--threads", type=integer(1, 1024), metavar="N", help="processor cores to use [all]"
    )

    training.add_argument(
        "--no-compile",
        dest="compile",
        action="store_false",
        help="run every step as Python instead of replaying captured ones; the same losses, slower",
    )

    model = parser.add_argument_group("size of the model (larger learns more, and takes longer)")
    add(model, "--n-layer", integer(1), "N", "layers, one after another")
    add(model, "--n-embd", integer(1), "N", "width: numbers that stand for one character")
    add(model, "--n-head", integer(1), "N", "attention heads in a layer; must divide the width")
    add(model, "--block-size", integer(1), "N", "characters that the model can look at")


def run(args: argparse.Namespace) -> int:
    if args.threads:
        bt.set_num_threads(args.threads)
    out: Path = args.out or Path(f"{args.data.stem if args.data else 'names'}.safetensors")
    settings, data = _settings(args, out)
    if settings["n_embd"] % settings["n_head"]:
        raise UserError(
            f"--n-embd {settings['n_embd']} must be a multiple of --n-head {settings['n_head']}"
        )
    documents = _read_documents(data or gpt.NAMES)
    if data and out.exists() and out.samefile(data):
        raise UserError(f"--out {out} is the data itself; give another name")
    try:
        check_writable(out)
    except OSError as error:
        raise UserError(f"--out: {error}") from None

    digest = hashlib.sha256("\n".join(documents).encode()).hexdigest()
    if args.resume and digest != settings["digest"]:
        raise UserError(f"the documents in {data or 'the package'} are not those {out} began with")
    settings["digest"] = digest
    tokenizer = gpt.Tokenizer("".join(documents))
    bt.manual_seed(settings["seed"])
    shape = {key: settings[key] for key in ("block_size", "n_embd", "n_head", "n_layer")}
    model = gpt.GPT(tokenizer.vocab_size, **shape)
    _print_header(settings, model, tokenizer, documents, data)

    began = time.perf_counter()
    try:
        history = _fit(model, tokenizer, documents, settings, out, args.resume, args.compile)
    except Interrupted as stop:
        _print_how_to_go_on(stop, out)
        return 130
    except CheckpointError as error:
        raise UserError(str(error)) from None
    _print_results(history, time.perf_counter() - began)
    bt.manual_seed(settings["seed"])
    for line in sample(Run(model, tokenizer), "", temperature=0.5, n=20):
        print(f"  {line}")
    title = f"GPT with {_count(model):,} parameters on {data.name if data else 'first names'}"
    print(f"\nmodel    {out}")
    print(f"picture  {save_loss_curve(history.losses, out, title, tokenizer.vocab_size)}")
    print(f"try      backtrail sample {shlex.quote(str(out))} --prompt {documents[0][0]}")
    return 0


def _settings(args: argparse.Namespace, out: Path) -> tuple[dict[str, Any], Path | None]:
    """Return the settings of the run and its data; those of a resumed run are in its checkpoint."""
    given = {key: value for key in DEFAULTS if (value := getattr(args, key)) is not None}
    if not args.resume:
        data = str(args.data.resolve()) if args.data else None
        return {**DEFAULTS, "data": data, **given}, args.data
    if not out.exists():
        raise UserError(f"there is no {out} to resume; leave --resume out to start a run")
    settings = read_run(out)[1]
    for key, value in given.items():
        if value != settings[key]:
            flag = "--" + key.replace("_", "-")
            raise UserError(
                f"{flag} {value}: the run in {out} began with {settings[key]}; leave {flag} out, "
                "or --resume to start anew"
            )
    if args.data or settings["data"] is None:
        return settings, args.data
    kept = Path(settings["data"])
    if kept.exists() and not kept.is_file():
        raise UserError(f"the data of the run in {out} were {kept}; give them again with --data")
    return settings, kept


def _read_documents(path: Path) -> list[str]:
    if path.is_char_device() or path.is_block_device():  # that never ends
        raise UserError(f"--data: {path} is a device; give a text file")
    try:
        documents = gpt.read_documents(path)
    except FileNotFoundError:
        raise UserError(f"--data: there is no file {path}") from None
    except IsADirectoryError:
        raise UserError(f"--data: {path} is a folder; give a text file") from None
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {error.object[error.start]:#04x}"
        raise UserError(f"--data: {path} is not UTF-8 text ({byte})") from None
    except OSError as error:
        raise UserError(f"--data: cannot read {path}: {error.strerror}") from None
    if not documents:
        why = "has only blank lines" if path.stat().st_size else "is empty"
        raise UserError(f"--data: {path} {why}; give a text file with one document a line")
    return documents


def _fit(
    model: gpt.GPT,
    tokenizer: gpt.Tokenizer,
    documents: list[str],
    settings: dict[str, Any],
    out: Path,
    resume: bool,
    compile: bool,
) -> History:
    steps = settings["steps"]
    optimizer = bt.optim.Adam(model.parameters(), lr=settings["lr"], betas=(0.85, 0.99))
    batches = gpt.Documents(
        documents, tokenizer, model.block_size, settings["batch_size"], settings["seed"]
    )
    return fit(
        model,
        gpt.loss_fn,
        batches,
        optimizer,
        steps=steps,
        scheduler=bt.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps),
        checkpoint=out,
        checkpoint_every=CHECKPOINT_EVERY,
        resume=resume,
        extra={"settings": settings, "characters": "".join(tokenizer.characters)},
        count_tokens=gpt.count_tokens,
        compile=compile,
    )


def _print_how_to_go_on(stop: Interrupted, out: Path) -> None:
    if stop.checkpoint is None:
        print("stopped before the first step was done; nothing is saved", file=sys.stderr)
    else:
        command = f"backtrail train --resume --out {shlex.quote(str(out))}"
        print(
            f"stopped after step {stop.step:,}; {out} is saved. To go on:\n  {command}",
            file=sys.stderr,
        )


def _count(model: gpt.GPT) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _print_header(
    settings: dict[str, Any],
    model: gpt.GPT,
    tokenizer: gpt.Tokenizer,
    documents: list[str],
    data: Path | None,
) -> None:
    def many(count: int, what: str) -> str:
        return f"{count:,} {what}{'' if count == 1 else 's'}"

    size = settings["block_size"]
    longer = sum(len(document) >= size for document in documents)
    print(f"machine  {machine()}")
    print(
        f"model    GPT, {many(_count(model), 'parameter')}: {many(settings['n_layer'], 'layer')}, "
        f"{many(settings['n_head'], 'head')}, width {settings['n_embd']}, block size {size}"
    )
    print(
        f"data     {data or 'first names, of the 1990 US census'}: "
        f"{many(len(documents), 'document')}, {tokenizer.vocab_size} tokens in the vocabulary"
    )
    if longer:
        print(f"         {longer:,} are longer than --block-size {size}: only their start is used")
    print(
        f"run      {many(settings['steps'], 'step')} of "
        f"{many(settings['batch_size'], 'document')}, "
        f"Adam, learning rate {settings['lr']:g} falling to 0, seed {settings['seed']}",
        flush=True,
    )


def _print_results(history: History, wall: float) -> None:
    steps = len(history.losses)
    print(f"\nloss     {history.losses[-1]:.4f}, over the last {min(100, steps)} steps ", end="")
    print(f"{history.mean_loss():.4f}")
    print(f"time     {wall:.2f} s, {1e6 * history.seconds / steps:,.0f} us a step\n")

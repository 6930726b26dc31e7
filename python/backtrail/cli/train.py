"""`backtrail train`: train a GPT on the lines of a text file, or on running text."""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import backtrail as bt
from backtrail.examples import gpt
from backtrail.serialization import CheckpointError, check_writable
from backtrail.train import History, Interrupted, Terminated, fit
from backtrail.train.history import many

from .arguments import SEED, Commands, Parser, UserError, integer, number
from .info import machine
from .plot import picture_of, save_loss_curve
from .sample import Trained, lines, read_run, writing
from .settings import DEFAULTS, LARGEST_BATCH, SHAPE, WINDOW
from .text import Corpus, corpus, entry, kind_of, printable, read

CHECKPOINT_EVERY = 250
EVALUATIONS = 10  # in a run
MOST_HELD_OUT = 512  # documents or windows that an evaluation looks at
AT_A_TIME = 64


class Plan(NamedTuple):
    """What is to be done."""

    settings: dict[str, Any]
    data: Path | None
    out: Path
    begin: Trained | None  # whose weights and characters are taken over
    resume: bool
    compile: bool


def add_parser(commands: Commands[Parser]) -> None:
    parser = commands.add_parser(
        "train",
        help="train a GPT on names, or on your own text",
        description="Train a small GPT to invent lines like those of a text file: first names, "
        "unless you give a file; or to write on like a book. Takes about a second, prints what it "
        "invents, and leaves a checkpoint.",
        epilog="Ctrl-C stops the run and saves it; the same command with --resume goes on.",
    )
    parser.set_defaults(run=run, parser=parser, lasting=True)  # also when no one reads

    files = parser.add_argument_group("files")
    files.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="text to learn from (UTF-8) [5,163 first names]",
    )
    files.add_argument(
        "--text",
        choices=("lines", "windows"),
        help="how to take it: each line by itself, or as running text, in windows of --block-size "
        "[windows, if most lines are longer than --block-size]",
    )
    files.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to keep the trained model [named after --data, or names.safetensors]; a "
        "picture of the loss goes beside it",
    )
    files.add_argument("--force", action="store_true", help="replace what --out holds already")
    files.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run kept in --out, to the same result as if it had never stopped; "
        "with more --steps, beyond its end",
    )
    files.add_argument(
        "--from",
        dest="begin",
        type=Path,
        metavar="MODEL",
        help="start from the weights of a trained model, with its size and its characters "
        "(fine-tuning)",
    )

    def add(group: Any, flag: str, kind: Any, metavar: str, text: str) -> None:
        default = DEFAULTS[flag.removeprefix("--").replace("-", "_")]
        group.add_argument(flag, type=kind, metavar=metavar, help=f"{text} [{default}]")

    training = parser.add_argument_group("training")
    add(training, "--steps", integer(1), "N", "how many times to adjust the weights")
    batch = integer(1, LARGEST_BATCH)
    add(training, "--batch-size", batch, "N", "documents or windows looked at in each step")
    rate = "learning rate: how far a step moves the weights at first; it falls to 0 at the end"
    add(training, "--lr", number(0, inclusive=False), "RATE", rate)
    held_out = (
        "share of the data that is held out, not learned from: its loss shows whether more was "
        "learned than by heart; 0 for none"
    )
    share = number(0, inclusive=True, below=1)
    add(training, "--validation", share, "SHARE", held_out)
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
    model.add_argument(
        "--block-size",
        type=integer(1),
        metavar="N",
        help=f"characters that the model can look at [{DEFAULTS['block_size']}, or {WINDOW} for "
        "running text]",
    )


def run(args: argparse.Namespace) -> int:
    if args.threads:
        bt.set_num_threads(args.threads)
    plan = _plan(args)
    settings, data, out = plan.settings, plan.data, plan.out
    text = read(data or gpt.NAMES)
    _check_out(plan, args.force)
    chosen = settings["text"] is None
    _choose_kind(settings, text)
    if settings["n_embd"] % settings["n_head"]:
        raise UserError(
            f"--n-embd {settings['n_embd']} must be a multiple of --n-head {settings['n_head']}"
        )
    digest = hashlib.sha256("\n".join(gpt.documents_of(text)).encode()).hexdigest()
    if plan.resume and digest != settings["digest"]:
        raise UserError(f"the documents in {data or 'the package'} are not those {out} began with")
    settings["digest"] = digest
    found = corpus(text, settings["text"], settings["validation"], settings["seed"])
    tokenizer = _tokenizer(plan, found)
    bt.manual_seed(settings["seed"])
    model = gpt.GPT(tokenizer.vocab_size, **{key: settings[key] for key in SHAPE})
    if plan.begin:
        model.load_state_dict(plan.begin.model.state_dict())
    trained = Trained(model, tokenizer, settings["text"])
    _print_header(plan, trained, found, chosen)

    began = time.perf_counter()
    try:
        history = _fit(plan, trained, found)
    except (Interrupted, Terminated) as stop:
        _print_how_to_go_on(stop, out)
        return stop.status
    except CheckpointError as error:
        raise UserError(str(error)) from None
    _print_results(history, time.perf_counter() - began)
    if _diverged(history, tokenizer.vocab_size):
        print(
            entry(
                "failed",
                "worse than guessing blindly: the steps were too long. Lower --lr "
                f"(it was {settings['lr']:g})",
            ),
            file=sys.stderr,
        )
        return 1
    _print_inventions(trained, found, settings["seed"])
    title = f"GPT with {_count(model):,} parameters on {data.name if data else 'first names'}"
    picture = save_loss_curve(history, out, title, tokenizer.vocab_size)
    print("\n" + entry("model", str(out)))
    print(entry("picture", picture))
    example = next((c for c in found.documents[0] if c.isalnum()), found.documents[0][0])
    prompt = shlex.quote(example) if example.isprintable() else "''"
    print(entry("try", f"backtrail sample {shlex.quote(str(out))} --prompt {prompt}"))
    return 0


# Before the run


def _plan(args: argparse.Namespace) -> Plan:
    """Return what is to be done; the settings of a resumed run are in its checkpoint."""
    out: Path = args.out or Path(f"{args.data.stem if args.data else 'names'}.safetensors")
    given = {key: value for key in DEFAULTS if (value := getattr(args, key)) is not None}
    data: Path | None = args.data
    begin = None
    if args.resume:
        if args.begin:
            raise UserError("--from begins a run and --resume goes on with one: give one of them")
        if not out.exists():
            raise UserError(f"there is no {out} to resume; leave --resume out to start a run")
        settings = read_run(out)[1]
        steps = given.pop("steps", settings["steps"])
        if steps < settings["steps"]:
            raise UserError(
                f"--steps {steps}: the run in {out} is one of {settings['steps']}; give more, to "
                "go on beyond them, or leave --steps out"
            )
        _keep_to(settings, given, f"the run in {out} began with", "or --resume to start anew")
        settings["steps"] = steps
        if data is None and settings["data"] is not None:
            data = Path(settings["data"])
            if data.exists() and not data.is_file():
                raise UserError(
                    f"the data of the run in {out} were {data}; give them again with --data"
                )
    else:
        settings = {**DEFAULTS, "data": str(data.resolve()) if data else None}
        if args.begin:
            begin, its = read_run(args.begin)
            shape = {key: its[key] for key in SHAPE}
            sized = {key: value for key, value in given.items() if key in SHAPE}
            _keep_to(shape, sized, f"the model in {args.begin} has", "")
            settings |= {**shape, "text": begin.kind, "lr": its["lr"]}
        settings |= given
    if args.block_size is None and not args.resume and begin is None:
        settings["block_size"] = None  # by the kind of text
    return Plan(settings, data, out, begin, args.resume, args.compile)


def _keep_to(settings: dict[str, Any], given: dict[str, Any], whose: str, otherwise: str) -> None:
    for key, value in given.items():
        if value != settings[key]:
            flag = "--" + key.replace("_", "-")
            advice = f"leave {flag} out, {otherwise}".rstrip(", ")
            raise UserError(f"{flag} {value}: {whose} {settings[key]}; {advice}")


def _check_out(plan: Plan, force: bool) -> None:
    """Raise UserError where the run cannot be kept, or something would be lost by it."""
    out, data, picture = plan.out, plan.data, picture_of(plan.out)
    for path, flag in ((data, "data"),):
        if path and out.exists() and out.samefile(path):
            raise UserError(f"--out {out} is the {flag} itself; give another name")
    try:
        check_writable(out)
    except OSError as error:
        raise UserError(f"--out: {error}") from None
    if plan.resume or force:
        return
    for path, what in ((out, ""), (picture, ", where the picture of the loss would go")):
        if path.exists():
            going_on = "--resume goes on with its run, " if path == out else ""
            raise UserError(
                f"{path} is there already{what}: {going_on}--out names another file, --force "
                "replaces it"
            )


def _choose_kind(settings: dict[str, Any], text: str) -> None:
    """Settle what kind of text it is, and how much of it the model can look at."""
    size = settings["block_size"]
    if settings["text"] is None:
        settings["text"] = kind_of(text, size or DEFAULTS["block_size"])
    if size is None:
        windows = settings["text"] == "windows"
        settings["block_size"] = WINDOW if windows else DEFAULTS["block_size"]


def _tokenizer(plan: Plan, found: Corpus) -> gpt.Tokenizer:
    if plan.begin is None:
        return gpt.Tokenizer(found.characters)
    tokenizer = plan.begin.tokenizer
    unknown = sorted(found.characters - set(tokenizer.characters))
    if unknown:
        some = " ".join(repr(printable(c)) for c in unknown[:20])
        more = f" and {len(unknown) - 20} others" if len(unknown) > 20 else ""
        raise UserError(
            f"--from: the model never saw {some}{more}, which the data has: take them out of the "
            "data, or leave --from out to train a model of its own"
        )
    return tokenizer


# The run


def _fit(plan: Plan, trained: Trained, found: Corpus) -> History:
    settings, (model, tokenizer, kind) = plan.settings, trained
    steps, seed = settings["steps"], settings["seed"]
    optimizer = bt.optim.Adam(model.parameters(), lr=settings["lr"], betas=(0.85, 0.99))
    batch_size = settings["batch_size"]
    batches: gpt.Windows | gpt.Documents
    if kind == "windows":
        text = found.documents[0]
        batches = gpt.Windows(text, tokenizer, model.block_size, batch_size, seed)
    else:
        batches = gpt.Documents(found.documents, tokenizer, model.block_size, batch_size, seed)
    return fit(
        model,
        gpt.loss_fn,
        batches,
        optimizer,
        steps=steps,
        scheduler=bt.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps),
        evaluate=_evaluation(trained, found),
        evaluate_every=max(1, steps // EVALUATIONS),
        checkpoint=plan.out,
        checkpoint_every=CHECKPOINT_EVERY,
        resume=plan.resume,
        extra={"settings": settings, "characters": "".join(tokenizer.characters)},
        count_tokens=gpt.count_tokens,
        compile=plan.compile,
    )


def _evaluation(trained: Trained, found: Corpus) -> Any:
    """Return the function that computes the loss of what is held out, None if nothing is."""
    if not found.held_out:
        return None
    model, tokenizer, kind = trained
    batches = []
    if kind == "windows":
        windows = gpt.Windows(found.held_out[0], tokenizer, model.block_size)
        places = [i * windows.size for i in range(min(windows.pieces, MOST_HELD_OUT))]
        for i in range(0, len(places), AT_A_TIME):
            batches.append(windows.windows(places[i : i + AT_A_TIME]))
    else:
        chosen = found.held_out[:MOST_HELD_OUT]
        documents = gpt.Documents(chosen, tokenizer, model.block_size)
        for i in range(0, len(chosen), AT_A_TIME):
            batches.append(documents.rows(range(i, min(i + AT_A_TIME, len(chosen)))))
    counts = [gpt.count_tokens(batch) for batch in batches]

    def evaluate(model: gpt.GPT) -> dict[str, float]:
        losses = [gpt.loss_fn(model, batch).item() for batch in batches]
        total = sum(loss * n for loss, n in zip(losses, counts, strict=True))
        return {"validation loss": total / sum(counts)}

    return evaluate


def _diverged(history: History, vocab_size: int) -> bool:
    """Whether the run ended clearly worse than guessing blindly, which is where one begins."""
    last = min(100, len(history.losses) // 2)
    return last >= 10 and history.mean_loss(last) > 1.1 * math.log(vocab_size)


# What is printed


def _print_how_to_go_on(stop: Interrupted | Terminated, out: Path) -> None:
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


def _print_header(plan: Plan, trained: Trained, found: Corpus, chosen: bool) -> None:
    settings, size = plan.settings, plan.settings["block_size"]
    vocabulary = trained.tokenizer.vocab_size
    print(entry("machine", machine()))
    shape = (
        f"GPT, {many(_count(trained.model), 'parameter')}: {many(settings['n_layer'], 'layer')}, "
        f"{many(settings['n_head'], 'head')}, width {settings['n_embd']}, block size {size}"
    )
    print(entry("model", shape))
    name = "first names, of the 1990 US census"
    if plan.data:
        name = min(str(plan.data), os.path.relpath(plan.data), key=len)
    kept = len(found.documents) + len(found.held_out)
    held = len(found.held_out)
    if found.kind == "windows":
        held = sum(map(len, found.held_out))
        kept = held + len(found.documents[0])
        what = f"running text, {many(kept, 'character')}"
    else:
        what = many(kept, "document")
    out_of_it = f", {held:,} of them held out" if held else ""
    print(entry("data", f"{name}: {what}{out_of_it}, {vocabulary} tokens in the vocabulary"))
    if found.kind == "windows" and chosen:
        why = "Most lines are long, so it is taken in windows; --text lines takes each by itself."
        print(entry("", why))
    longer = sum(len(document) >= size for document in found.documents)
    if found.kind == "lines" and longer:
        are = "is" if longer == 1 else "are"
        print(
            entry(
                "",
                f"{longer:,} {are} longer than --block-size {size}: only the start is used. A "
                "larger --block-size sees more; --text windows takes all as running text.",
            )
        )
    unit = "window" if found.kind == "windows" else "document"
    print(
        entry(
            "run",
            f"{many(settings['steps'], 'step')} of {many(settings['batch_size'], unit)}, "
            f"Adam, learning rate {settings['lr']:g} falling to 0, seed {settings['seed']}",
        )
    )
    print(entry("", f"a loss of {math.log(vocabulary):.2f} is guessing blindly"), flush=True)


def _print_results(history: History, wall: float) -> None:
    steps, last = len(history.losses), min(100, len(history.losses))
    mean = _shown(history.mean_loss())
    print(f"\nloss     {_shown(history.losses[-1])}, over the last {many(last, 'step')} {mean}")
    if history.evaluations:
        values = history.metric("validation loss")
        best = min(values, key=lambda pair: pair[1])
        text = f"{_shown(values[-1][1])} on what was held out"
        if best[0] != values[-1][0]:
            text += f"; it was best at step {best[0]:,}, {_shown(best[1])}"
        print(entry("", text))
    print(f"time     {wall:.2f} s, {1e6 * history.seconds / steps:,.0f} us a step\n")


def _shown(loss: float) -> str:
    return f"{loss:.4f}" if loss < 1000 else f"{loss:.3g}"


def _print_inventions(trained: Trained, found: Corpus, seed: int) -> None:
    bt.manual_seed(seed)
    if trained.kind == "windows":
        for line in "".join(writing(trained, "", 0.5, 500)).strip("\n").split("\n"):
            print(entry("", line, indent=2))
        return
    known = {*found.documents, *found.held_out}
    invented = list(lines(trained, "", temperature=0.5, n=20))
    for line in invented:
        print(f"  {printable(line)}")
    new = sum(line not in known for line in invented)
    print(f"\n{new} of {len(invented)} are not in the data")

"""`backtrail train` on any text, from other models, beyond its end, and when it goes wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import backtrail as bt
import pytest
from backtrail.cli import main
from backtrail.cli.sample import read_run
from backtrail.cli.text import corpus, entry, kind_of, printable
from backtrail.examples import gpt
from test_cli import COMMAND, NAMES, SMALL, fails, folder, heard_sigint, unwrapped

__all__ = ["folder", "heard_sigint"]  # fixtures

PROSE = "the cat sat on the mat and looked at the moon.\nthe dog sat on the log.\n" * 20
TRAIN = ["train", "--data", "data/ann.txt", *SMALL]


def trained(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    """Run `backtrail train`; return what it printed, with its long lines whole again."""
    assert main([str(argument) for argument in arguments]) == status
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80, out
    return unwrapped(out)


# What there is to learn from


def test_what_is_running_text() -> None:
    assert kind_of(NAMES, 8) == "lines"
    assert kind_of(PROSE, 16) == "windows"
    assert kind_of(PROSE, 64) == "lines"
    lines = corpus("\n".join(map(str, range(100))), "lines", 0.2, seed=1)
    assert len(lines.held_out) == 20
    assert sorted(map(int, lines.documents + lines.held_out)) == list(range(100))
    assert lines != corpus("\n".join(map(str, range(100))), "lines", 0.2, seed=2)
    text = corpus(PROSE, "windows", 0.1, seed=1)
    assert text.documents[0] + text.held_out[0] == PROSE
    assert len(text.held_out[0]) == round(0.1 * len(PROSE))
    assert corpus("ab", "windows", 0.1, 1).held_out == []
    assert corpus(PROSE, "windows", 0, 1).held_out == []


def test_running_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "prose.txt").write_text(PROSE)
    out = trained(capsys, "train", "--data", "prose.txt", "--steps", "60", "--batch-size", "2")
    assert f"running text, {len(PROSE):,} characters, 142 of them held out, " in out
    assert "taken in windows; --text lines takes each by itself" in out
    assert "60 steps of 2 windows" in out
    assert "block size 64" in out
    assert re.search(r"^loss .* \d\.\d{4} on what was held out", out, re.M)
    assert main(["sample", "prose.safetensors", "--length", "150", "--prompt", "the cat"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("the cat")
    assert len(text) == len("the cat") + 150 + 1
    assert main(["sample", "prose.safetensors", "--length", "9", "--n", "3"]) == 0
    assert capsys.readouterr().out.count("-" * 20) == 2
    lines = "train --data prose.txt --text lines --block-size 16 --force --steps 5"
    out = trained(capsys, *lines.split())
    assert "40 documents, 4 of them held out" in out
    assert "longer than --block-size 16: only the start is used. A larger --block-size" in out


def test_validation_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    out = trained(capsys, "train", "--steps", "3", "--validation", "0")
    assert "held out" not in out
    assert "5,163 documents, 27 tokens" in out
    assert bt.load("names.safetensors")["evaluations"] == []
    assert "--validation: must be at least 0 and less than 1, not 1" in fails(
        capsys, "train", "--validation", "1"
    )


def test_control_characters_never_reach_the_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "evil.txt").write_bytes(b"\x1b[31m\x07\nred\x1b[0m\n\xe2\x80\xaeright\nold\rmac\r")
    out = trained(capsys, "train", "--data", "evil.txt", "--steps", "60", *SMALL, "--seed", "3")
    assert main(["sample", "evil.safetensors", "--temperature", "9", "--n", "50"]) == 0
    out += capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x07", "\r", "\u202e"}
    assert r"\x1b" in out
    assert "5 documents" in out  # a carriage return ends a line
    error = fails(capsys, "sample", "evil.safetensors", "--prompt", "z\x1b\u202e")
    assert not set(error) & {"\x1b", "\u202e"}
    assert printable("a\tb\nc\x00\x9b") == "a\tb\nc\\x00\\x9b"
    assert entry("label", "a " * 60).count("\n") == 1


# Going on, and from elsewhere


def test_more_steps_after_the_last(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(capsys, *TRAIN, "--steps", "20")
    first = bt.load("ann.safetensors")["losses"].tolist()
    out = trained(capsys, "train", "--resume", "--out", "ann.safetensors", "--steps", "35")
    assert "35 steps of 1 document" in out
    state = bt.load("ann.safetensors")
    assert state["losses"].tolist()[:20] == first
    assert len(state["losses"]) == 35
    assert state["extra"]["settings"]["steps"] == 35


def test_from_another_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(capsys, *TRAIN, "--steps", "200", "--lr", "0.02")
    (folder / "other.txt").write_text("hanna\nnana\n")
    out = trained(
        capsys, "train", "--from", "ann.safetensors", "--data", "other.txt", "--steps", "4"
    )
    assert "width 8, block size 8" in out
    assert "4 tokens in the vocabulary" in out  # those of the model it comes from
    assert "learning rate 0.02" in out
    state = bt.load("other.safetensors")
    model, tokenizer, _ = read_run(folder / "ann.safetensors")[0]
    batch = gpt.Documents(["hanna", "nana"], tokenizer, 8, seed=42)(0)
    assert state["losses"][0].item() == gpt.loss_fn(model, batch).item()
    assert main(["sample", "other.safetensors"]) == 0
    capsys.readouterr()

    (folder / "strange.txt").write_text("hanz\u00fc\x1b\n")
    strange = ("train", "--from", "ann.safetensors", "--data", "strange.txt")
    error = fails(capsys, *strange)
    assert r"the model never saw '\\x1b' 'z' 'ü'" in error
    assert "take them out of the data, or leave --from out" in error
    assert "has 8; leave --n-embd out" in fails(capsys, *strange, "--n-embd", "16")
    assert "there is no checkpoint no.model" in fails(capsys, "train", "--from", "no.model")


def test_nothing_is_overwritten_silently(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(capsys, *TRAIN, "--steps", "2")
    before = (folder / "ann.safetensors").read_bytes()
    error = fails(capsys, *TRAIN, "--steps", "3")
    assert "ann.safetensors is there already: --resume goes on with its run, --out" in error
    assert (folder / "ann.safetensors").read_bytes() == before
    trained(capsys, *TRAIN, "--steps", "3", "--force")
    assert len(bt.load("ann.safetensors")["losses"]) == 3
    (folder / "mine.png").write_text("a picture of my own")
    error = fails(capsys, *TRAIN, "--out", "mine.safetensors")
    assert "mine.png is there already, where the picture of the loss would go" in error
    assert (folder / "mine.png").read_text() == "a picture of my own"


# When it goes wrong


def test_a_run_that_diverged_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--steps", "60", "--lr", "1000", "--validation", "0"]) == 1
    out, err = capsys.readouterr()
    assert "a loss of 3.30 is guessing blindly" in out
    last = err.splitlines()[-2:]
    assert unwrapped("\n".join(last)) == (
        "failed   worse than guessing blindly: the steps were too long. Lower --lr (it was 1000)"
    )
    assert not re.search(r"^  \S", out, re.M)  # no inventions
    assert main(["train", "--steps", "30", "--lr", "1e-9", "--out", "slow"]) == 0


def test_the_ways_to_start_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"backtrail {bt.__version__}\n"
    for module in ("backtrail", "backtrail.cli"):
        command = [sys.executable, "-m", module, "--version"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == (f"backtrail {bt.__version__}\n", "")
    assert "(see backtrail sample --help)" in fails(capsys, "sample", "x", "--top-k", "5")


def test_info_says_what_a_speed_depends_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for label in ("processor", "load", "NumPy", "threads", "compiler"):
        assert re.search(rf"^{label} +\S", out, re.M), label


def test_ctrl_c_while_the_command_is_loaded(tmp_path: Path, heard_sigint: None) -> None:
    """Wherever it comes: from before the first import of ours to the reading of the arguments."""
    for name in ("backtrail._core", "argparse", "backtrail.cli.train"):
        hook = f"""
import importlib.abc, os, signal, sys

class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000): pass

sys.meta_path.insert(0, Interrupt())
"""
        (tmp_path / "sitecustomize.py").write_text(hook)
        path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
        env = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run([*COMMAND, "info"], capture_output=True, text=True, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (130, "", ""), name


def test_ctrl_c_is_heard_again_once_it_is_loaded(heard_sigint: None) -> None:
    code = (
        "import sys; sys.argv = ['backtrail', 'sample', 'none']\n"
        "from backtrail.cli import main\n"
        "import signal; from backtrail import _quiet\n"
        "assert signal.getsignal(signal.SIGINT) is _quiet._leave\n"
        "assert main() == 2\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    began = time.monotonic()
    code = "import backtrail, signal; print(signal.getsignal(signal.SIGINT).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "default_int_handler\n"  # a library leaves it alone
    assert time.monotonic() - began < 60
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

"""The command line: every flag, what it prints and leaves behind, every error in one line."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import backtrail as bt
import pytest
from backtrail import _core
from backtrail.cli import main
from backtrail.examples import gpt

COMMAND = [sys.executable, "-m", "backtrail.cli"]
SMALL = ["--n-embd", "8", "--n-head", "2", "--block-size", "8"]
NAMES = "anna\nhannah\nnan\n\n  ana  \nhana\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ann.txt").write_text(NAMES)
    return tmp_path


@pytest.fixture
def heard_sigint() -> Iterator[None]:
    """Let children hear Ctrl-C even where a shell has its background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "ann.txt").write_text(NAMES)
    out = folder / "ann.safetensors"
    arguments = ["--data", str(folder / "ann.txt"), "--out", str(out), "--steps", "40", *SMALL]
    assert main(["train", *arguments]) == 0
    return out


@pytest.fixture
def trained(folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy, that a test may spoil, of a model trained once."""
    capsys.readouterr()
    return Path(shutil.copy(checkpoint, folder / "ann.safetensors"))


def fails(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 2) -> str:
    """Run a command that must fail; return the one line that says why."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse
        code = int(stop.code or 0)
    assert code == status
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def unwrapped(out: str) -> str:
    """Put the lines together that were one before they were made to fit."""
    return re.sub("\n {9}(?! )", " ", out)


# train


def test_train_prints_and_leaves_what_it_says(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    run = subprocess.run([*COMMAND, "train", "--steps", "30"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for line in (
        r"^machine  Backtrail \S+, .*\d threads?$",
        r"^model    GPT, 4,192 parameters: 1 layer, 4 heads, width 16, block size 16$",
        r"^data     first names.*: 5,163 documents, 516 of them held out, 27 tokens in the vocab",
        r"^run      30 steps of 1 document, Adam, learning rate 0.01 falling to 0, seed 42 "
        r"a loss of 3.30 is guessing blindly$",
        r"^loss     \d\.\d{4}, over the last 30 steps \d\.\d{4} \d\.\d{4} on what was held out",
        r"^time     \d+\.\d\d s, [\d,]+ us a step$",
        r"^model    names.safetensors$",
        r"^picture  names.png$",
        r"^try      backtrail sample names.safetensors --prompt a$",
    ):
        assert re.search(line, unwrapped(run.stdout), re.MULTILINE), (line, run.stdout)
    assert max(map(len, run.stdout.splitlines() + run.stderr.splitlines())) <= 80
    assert len(re.findall(r"^  [a-z]*$", run.stdout, re.MULTILINE)) == 20
    assert "step 30/30" in run.stderr  # lines, as stderr is no terminal
    assert "\r" not in run.stderr
    assert sorted(os.listdir(folder)) == ["data", "names.png", "names.safetensors"]
    picture = (folder / "names.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_without_matplotlib_a_line_says_how(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert main(["train", "--data", "data/ann.txt", "--steps", "1", *SMALL]) == 0
    assert 'pip install "backtrail[plot]"' in capsys.readouterr().out
    assert not (folder / "ann.png").exists()


def test_every_flag_of_train(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--steps 12 --batch-size 3 --n-layer 2 --n-embd 12 --n-head 3 --block-size 5 --lr 0.02"
    threads = bt.get_num_threads()
    more = ["--seed", "7", "--threads", "1", "--out", "kept.model", "--data", "data/ann.txt"]
    assert main(["train", *flags.split(), *more]) == 0
    assert bt.get_num_threads() == 1
    bt.set_num_threads(threads)
    out = unwrapped(capsys.readouterr().out)
    assert "2 layers, 3 heads, width 12, block size 5" in out
    assert "data     data/ann.txt: 5 documents, 4 tokens in the vocabulary" in out
    assert "1 is longer than --block-size 5: only the start is used" in out
    assert "12 steps of 3 documents, Adam, learning rate 0.02 falling to 0, seed 7" in out
    state = bt.load(folder / "kept.model")
    assert state["losses"].shape[0] == 12
    assert state["model"]["wpe.weight"].shape == (5, 12)
    assert "blocks.1.fc2.weight" in state["model"]
    assert state["extra"]["settings"]["lr"] == 0.02
    assert (folder / "kept.png").exists() == (find_spec("matplotlib") is not None)


def test_it_learns(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", "data/ann.txt", "--steps", "120", "--batch-size", "5"]
    assert main(["train", *arguments]) == 0
    out = capsys.readouterr().out
    last = re.search(r"^loss     (\S+),", out, re.MULTILINE)
    assert last
    assert float(last[1]) < 0.6  # as above: letters alone
    assert any(f"  {name}\n" in out for name in NAMES.split())


def test_the_seed_decides(folder: Path) -> None:
    def train(seed: int) -> list[float]:
        flags = ["--data", "data/ann.txt", "--steps", "5", "--seed", str(seed), *SMALL, "--force"]
        assert main(["train", *flags]) == 0
        return bt.load("ann.safetensors")["losses"].tolist()

    assert train(1) == train(1) != train(2)


def test_threads_and_instruction_sets_change_no_bit(folder: Path) -> None:
    """A model large enough for two threads, on each table of kernels that this CPU can run."""
    size = ["--steps", "12", "--batch-size", "16", "--n-embd", "64", "--n-layer", "2"]
    isas = _core.build_info()["available"].split()
    runs = [("1", isas[-1]), *(("2", isa) for isa in isas if isa != "v2")]  # v2 has no fused add
    contents = []
    for i, (threads, isa) in enumerate(runs):
        command = [*COMMAND, "train", *size, "--threads", threads, "--out", f"{i}.safetensors"]
        environment = {**os.environ, "BACKTRAIL_ISA": isa}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        state = bt.load(f"{i}.safetensors")
        weights = [weight.tolist() for weight in state["model"].values()]
        contents.append((state["losses"].tolist(), weights))
    assert all(content == contents[0] for content in contents)


def test_one_line_is_enough(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "one.txt").write_text("a")
    assert main(["train", "--data", "one.txt", "--steps", "3"]) == 0
    out = capsys.readouterr().out
    assert "one.txt: 1 document, 2 tokens" in out


def test_characters_that_the_terminal_cannot_show(folder: Path) -> None:
    (folder / "accents.txt").write_text("éàü\nàüé\nüéà\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [*COMMAND, "train", "--data", "accents.txt", "--steps", "60", *SMALL]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert r"\xe9" in run.stdout


def test_the_checkpoint_never_replaces_the_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is the data itself" in fails(
        capsys, "train", "--data", "data/ann.txt", "--out", "data/ann.txt"
    )
    assert (folder / "data" / "ann.txt").read_text() == NAMES


# Stopping and going on


def test_ctrl_c_and_resume(folder: Path, heard_sigint: None) -> None:
    flags = ["--steps", "5000", *SMALL]
    process = subprocess.Popen(
        [*COMMAND, "train", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    for line in process.stderr:
        if line.startswith("step "):
            break
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    error = ""
    while "stopped" not in error:
        error = process.stderr.readline()
        assert error, "it ended without a word"
    assert time.monotonic() - began < 1
    error += process.stderr.read()
    process.communicate(timeout=20)
    assert process.returncode == 130
    stopped = re.search(r"stopped after step ([\d,]+); names.safetensors is saved", error)
    assert stopped, error
    assert "  backtrail train --resume --out names.safetensors\n" in error
    assert "Traceback" not in error
    step = int(stopped[1].replace(",", ""))
    assert step == len(bt.load("names.safetensors")["losses"])
    assert 1 <= step < 5000

    assert main(["train", "--resume", "--out", "names.safetensors"]) == 0
    assert main(["train", "--out", "straight.safetensors", *flags]) == 0
    one, other = bt.load("names.safetensors"), bt.load("straight.safetensors")
    assert one["losses"].tolist() == other["losses"].tolist()
    for name, weight in one["model"].items():
        assert weight.tolist() == other["model"][name].tolist()


def test_resume_keeps_to_what_was_begun(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "data/ann.txt", "--steps", "40", *SMALL]) == 0
    capsys.readouterr()
    resume = ["train", "--resume", "--out", folder / "ann.safetensors"]
    assert "--lr 0.5: the run in" in fails(capsys, *resume, "--lr", "0.5")
    assert "is one of 40; give more" in fails(capsys, *resume, "--steps", "30")
    assert "--from begins a run" in fails(capsys, *resume, "--from", "ann.safetensors")
    assert main([str(argument) for argument in (*resume, "--steps", "40", "--threads", "1")]) == 0
    (folder / "other.txt").write_text("other\n")
    assert "are not those" in fails(capsys, *resume, "--data", "other.txt")
    (folder / "data" / "ann.txt").write_text(NAMES + "more\n")
    assert "are not those" in fails(capsys, *resume)
    (folder / "data" / "ann.txt").unlink()
    assert "there is no file" in fails(capsys, *resume)
    assert "there is no names.safetensors to resume" in fails(capsys, "train", "--resume")


def test_nan_stops_with_the_step(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trained.read_bytes()
    flags = ["--steps", "40", "--lr", "1e30", *SMALL, "--force"]
    assert main(["train", "--data", "data/ann.txt", *flags]) == 1
    err = capsys.readouterr().err.splitlines()
    assert re.match(r"backtrail: .* (at|after) step \d+", err[-1]), err
    assert trained.read_bytes() == before


# sample


def test_sample(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def lines(*flags: str) -> list[str]:
        assert main(["sample", str(trained), *flags]) == 0
        return capsys.readouterr().out.splitlines()

    assert len(lines()) == 20
    assert lines("--n", "5") == lines()[:5]
    assert lines("--seed", "1") != lines("--seed", "2")
    assert all(line.startswith("hn") for line in lines("--prompt", "hn"))
    assert len(set(lines("--temperature", "0", "--n", "3"))) == 1
    assert len(set(lines("--temperature", "5"))) > 10
    assert all(len(line) <= 8 for line in lines("--temperature", "100"))


def test_sample_repeats_what_train_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "data/ann.txt", "--steps", "20", *SMALL]) == 0
    names = re.findall(r"^  ((?! ).*)$", capsys.readouterr().out, re.MULTILINE)
    assert main(["sample", "ann.safetensors"]) == 0
    assert capsys.readouterr().out.splitlines() == names


def test_a_reader_that_leaves_early(trained: Path) -> None:
    command = " ".join([*COMMAND, "sample", str(trained), "--n", "3000"])
    run = subprocess.run(f"{command} | head -n 2", shell=True, capture_output=True, text=True)
    assert run.stdout.count("\n") == 2
    assert run.stderr == ""


# info and help


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert bt.__version__ in out
    assert re.search(r"^threads", out, re.MULTILINE)


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    flags = {
        (): "train sample info new-op",
        ("train",): "--data --steps --batch-size --n-layer --n-embd --n-head --block-size --lr "
        "--seed --out --resume --threads",
        ("sample",): "CHECKPOINT --prompt --temperature --n --seed",
        ("info",): "usage",
        ("new-op",): "NAME --kind --directory pointwise reduction rowwise opaque",
    }
    for command, names in flags.items():
        with pytest.raises(SystemExit) as stop:
            main([*command, "--help"])
        assert stop.value.code == 0
        out = capsys.readouterr().out
        assert all(name in out for name in names.split())


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "backtrail: the following arguments are required: COMMAND"),
        ("fly", "backtrail: COMMAND: invalid choice: 'fly'"),
        ("train --stepz 3", "unrecognized arguments: --stepz"),
        ("train --steps -1", "backtrail train: --steps: must be at least 1, not -1"),
        ("train --steps many", "--steps: must be a whole number, not 'many'"),
        ("train --steps", "--steps: expected one argument"),
        ("train --batch-size 0", "--batch-size: must be from 1 to 1048576, not 0"),
        ("train --n-layer 0", "--n-layer: must be at least 1"),
        ("train --n-embd 1.5", "--n-embd: must be a whole number"),
        ("train --n-head 0", "--n-head: must be at least 1"),
        ("train --block-size 0", "--block-size: must be at least 1"),
        ("train --n-embd 10 --n-head 4", "--n-embd 10 must be a multiple of --n-head 4"),
        ("train --lr 0", "--lr: must be greater than 0, not 0"),
        ("train --lr nan", "--lr: must be greater than 0, not nan"),
        ("train --lr inf", "--lr: must be greater than 0, not inf"),
        ("train --lr fast", "--lr: must be a number, not 'fast'"),
        ("train --seed -1", "--seed: must be from 0 to 9223372036854775807, not -1"),
        ("train --threads 0", "--threads: must be from 1 to 1024, not 0"),
        ("train --data no.txt", "--data: there is no file no.txt"),
        ("train --data data", "--data: data is a folder"),
        ("train --data data/empty.txt", "--data: data/empty.txt is empty"),
        ("train --data data/blank.txt", "--data: data/blank.txt has only blank lines"),
        ("train --data data/latin.txt", "is not UTF-8 text (byte 3 is 0xe9)"),
        ("train --out no/x", "--out: cannot write no/x: there is no folder no"),
        ("train --out data", "--out: data is a folder"),
        ("train --out data/ann.txt/x", "--out: cannot write data/ann.txt/x"),
        ("train --resume --out data/ann.txt", "data/ann.txt is not a readable checkpoint"),
        ("sample", "the following arguments are required: CHECKPOINT"),
        ("sample no.safetensors", "there is no checkpoint no.safetensors"),
        ("sample data", "data is a folder"),
        ("sample data/empty.txt", "data/empty.txt is not a readable checkpoint: it is empty"),
        ("sample data/ann.txt", "data/ann.txt is not a readable checkpoint"),
        (
            "sample foreign.safetensors",
            "is not a checkpoint of `backtrail train`: it lacks 'extra'",
        ),
        ("sample tensor.safetensors", "is not a checkpoint of `backtrail train`"),
        ("sample shapes.safetensors", "is not a checkpoint of `backtrail train`"),
        ("sample ann.safetensors --n 0", "--n: must be at least 1"),
        ("sample ann.safetensors --temperature -1", "--temperature: must be at least 0, not -1"),
        ("sample ann.safetensors --prompt a_b!", "never saw '!' '_' 'b'; it knows ahn"),
        ("sample ann.safetensors --prompt annannan", "has 8 characters; the model can look at 8"),
        ("info now", "unrecognized arguments: now"),
    ],
)
def test_errors_are_one_line(
    trained: Path, folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    (folder / "data" / "empty.txt").write_text("")
    (folder / "data" / "blank.txt").write_text("\n  \n")
    (folder / "data" / "latin.txt").write_bytes("ren\u00e9\n".encode("latin-1"))
    state = bt.load(trained)
    bt.save({"w": bt.ones(2)}, "foreign.safetensors")
    bt.save(bt.ones(2), "tensor.safetensors")
    state["model"]["wte.weight"] = bt.ones(3, 3)
    bt.save(state, "shapes.safetensors")
    before = sorted(os.listdir(folder))
    assert message in fails(capsys, *arguments.split())
    assert sorted(os.listdir(folder)) == before


def test_the_package_carries_its_names() -> None:
    assert gpt.NAMES.is_file()

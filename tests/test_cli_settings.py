"""Checkpoints of `train` with odd settings or weights: one line says what is wrong with each."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import backtrail as bt
import pytest
from backtrail.cli import main

NAMES = "anna\nhannah\nnan\nana\nhana\n"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "ann.txt").write_text(NAMES)
    out = folder / "ann.safetensors"
    size = ["--n-embd", "8", "--n-head", "2", "--block-size", "8", "--steps", "3"]
    assert main(["train", "--data", str(folder / "ann.txt"), "--out", str(out), *size]) == 0
    found: dict[str, Any] = bt.load(out)
    return found


def complaint(
    tmp_path: Path, state: dict[str, Any], capsys: pytest.CaptureFixture[str], *command: str
) -> str:
    bt.save(state, tmp_path / "x.safetensors")
    began = time.monotonic()
    assert main([*command, str(tmp_path / "x.safetensors")]) == 2
    assert time.monotonic() - began < 5
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


ODD: list[Any] = [None, "", "7", 1.5, math.nan, True, [], {}, -1, 0, 10**30]
SETTINGS = [
    (name, value)
    for name in ("steps", "batch_size", "n_layer", "n_embd", "n_head", "block_size", "seed", "lr")
    for value in ODD
    if not (name == "seed" and value == 0) and not (name == "lr" and value in (1.5, 10**30))
]
SETTINGS += [("n_layer", 10**9), ("n_layer", 2), ("n_embd", 10**9), ("n_head", 3), ("lr", math.inf)]
SETTINGS += [("block_size", 10**9), ("batch_size", 10**9)]
SETTINGS += [("data", value) for value in (3, ["a"], "a\0b", True)]
SETTINGS += [("digest", value) for value in (3, None, "x" * 64, "")]


@pytest.mark.parametrize(("name", "value"), SETTINGS, ids=lambda x: repr(x)[:20])
def test_odd_settings(
    tmp_path: Path,
    state: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: Any,
) -> None:
    settings = {**state["extra"]["settings"], name: value}
    odd = {**state, "extra": {**state["extra"], "settings": settings}}
    for command in (["sample"], ["train", "--resume", "--out"]):
        error = complaint(tmp_path, odd, capsys, *command)
        assert "is not a checkpoint of `backtrail train`" in error
    del settings[name]
    assert f"it lacks '{name}'" in complaint(tmp_path, odd, capsys, "sample")


@pytest.mark.parametrize("extra", [None, {}, 3, {"characters": "ahn"}, {"characters": 3}])
def test_odd_extras(
    tmp_path: Path, state: dict[str, Any], capsys: pytest.CaptureFixture[str], extra: Any
) -> None:
    assert "it lacks" in complaint(tmp_path, {**state, "extra": extra}, capsys, "sample")


@pytest.mark.parametrize(
    "weights",
    [
        None,
        {},
        {"wte.weight": 3},
        {"blocks.0.fc1.weight": None},
        {"wpe.weight": bt.ones(1)},
        {"wte.weight": [1, 2]},
        {"more": bt.ones(1)},
        {"lm_head.weight": "x"},
    ],
)
def test_odd_weights(
    tmp_path: Path, state: dict[str, Any], capsys: pytest.CaptureFixture[str], weights: Any
) -> None:
    odd = {**state, "model": weights and {**state["model"], **weights}}
    assert "is not a checkpoint of" in complaint(tmp_path, odd, capsys, "sample")


@pytest.mark.parametrize("data", ["/dev/zero", "/"])
def test_data_that_are_no_file_any_more(
    tmp_path: Path, state: dict[str, Any], capsys: pytest.CaptureFixture[str], data: str
) -> None:
    settings = {**state["extra"]["settings"], "data": data}
    odd = {**state, "extra": {**state["extra"], "settings": settings}}
    assert "give them again with --data" in complaint(
        tmp_path, odd, capsys, "train", "--resume", "--out"
    )
    assert main(["train", "--data", "/dev/zero"]) == 2
    assert "/dev/zero is a device" in capsys.readouterr().err

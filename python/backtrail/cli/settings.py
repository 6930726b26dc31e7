"""The settings of a run: their limits, on the command line and in a checkpoint alike."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .arguments import UserError

# What makes a run what it is: kept in its checkpoint, and taken from there by --resume.
DEFAULTS: dict[str, Any] = {
    "steps": 1000,
    "batch_size": 1,
    "n_layer": 1,
    "n_embd": 16,
    "n_head": 4,
    "block_size": 16,
    "lr": 0.01,
    "seed": 42,
    "validation": 0.1,
    "text": None,  # "lines" or "windows", by the length of its lines
}
SHAPE = ("block_size", "n_embd", "n_head", "n_layer")  # of a model
WINDOW = 64  # the block size for running text unless told otherwise
BEFORE = {"validation": 0.0, "text": "lines"}  # what runs had that did not know these settings
LARGEST_BATCH = 2**20  # documents: a larger one is a slip, and would be built until memory ends


def check_settings(path: Path, settings: Any) -> dict[str, Any]:
    """Return the settings in a checkpoint; raise UserError for what no command line could ask."""
    if not isinstance(settings, dict):
        raise UserError(f"{path} is not a checkpoint of `backtrail train`: it lacks 'settings'")
    found: dict[str, Any] = {**BEFORE, **settings}
    for name in (*DEFAULTS, "data", "digest"):
        if name not in found:
            raise UserError(f"{path} is not a checkpoint of `backtrail train`: it lacks {name!r}")
        if not _holds(name, found[name]):
            raise UserError(
                f"{path} is not a checkpoint of `backtrail train`: its {name} is "
                f"{found[name]!r:.40}"
            )
    if found["n_embd"] % found["n_head"]:
        raise UserError(
            f"{path} is not a checkpoint of `backtrail train`: its n_embd is "
            f"{found['n_embd']}, no multiple of its n_head, {found['n_head']}"
        )
    return found


def _holds(name: str, value: Any) -> bool:
    if name == "data":  # where it was read from; None: the names of the package
        return value is None or (type(value) is str and "\0" not in value)
    if name == "digest":
        return type(value) is str and re.fullmatch("[0-9a-f]{64}", value) is not None
    if name == "text":
        return value in ("lines", "windows")
    if name == "validation":
        return type(value) in (int, float) and 0 <= value < 1
    if name == "lr":
        return type(value) in (int, float) and 0 < value < math.inf
    if name == "seed":
        return type(value) is int and 0 <= value < 2**63
    return type(value) is int and 1 <= value <= (LARGEST_BATCH if name == "batch_size" else 2**53)


def check_weights(path: Path, weights: Any, settings: Mapping[str, Any], vocab_size: int) -> None:
    """Raise UserError for weights of another size, before a model of the settings' is built."""
    layers, width = settings["n_layer"], settings["n_embd"]
    expected = {
        "wte.weight": (vocab_size, width),
        "wpe.weight": (settings["block_size"], width),
        f"blocks.{layers - 1}.fc1.weight": (4 * width, width),
    }
    if not isinstance(weights, dict) or len(weights) < 6 * layers:
        raise UserError(f"{path} is not a checkpoint of `backtrail train`: it lacks weights")
    for name, shape in expected.items():
        found = getattr(weights.get(name), "shape", None)
        if found != shape:
            has = "is missing" if found is None else f"has shape {tuple(found)}"
            raise UserError(
                f"{path} is not a checkpoint of `backtrail train`: {name} {has}, and its settings "
                f"ask for {shape}"
            )

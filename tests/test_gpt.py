"""The GPT of the examples: padding, the key/value cache, generation, the order of the documents."""

from __future__ import annotations

from pathlib import Path

import backtrail as bt
import pytest
from backtrail.examples import gpt

NAMES = ["anna", "bob", "cy", "abcabcabcabcabcabcabc"]


@pytest.fixture
def tokenizer() -> gpt.Tokenizer:
    return gpt.Tokenizer("".join(NAMES))


@pytest.fixture
def model(tokenizer: gpt.Tokenizer) -> gpt.GPT:
    bt.manual_seed(0)
    return gpt.GPT(tokenizer.vocab_size, block_size=8, n_embd=12, n_head=3, n_layer=2)


def test_parameters_come_in_the_order_of_the_reference(model: gpt.GPT) -> None:
    layer = ["attention.wq", "attention.wk", "attention.wv", "attention.wo", "fc1", "fc2"]
    expected = ["wte", "wpe", "lm_head", *(f"blocks.{i}.{name}" for i in (0, 1) for name in layer)]
    assert [name.removesuffix(".weight") for name, _ in model.named_parameters()] == expected


def test_the_default_model_has_4192_parameters() -> None:
    assert sum(p.numel() for p in gpt.GPT(27).parameters()) == 4192


def test_padding_changes_nothing(model: gpt.GPT, tokenizer: gpt.Tokenizer) -> None:
    together = gpt.Documents(NAMES, tokenizer, 8, batch_size=4)(0)
    alone = gpt.Documents(NAMES, tokenizer, 8)
    counts, total = 0, 0.0
    for i in range(4):
        batch = alone(i)
        counts += gpt.count_tokens(batch)
        total += gpt.loss_fn(model, batch).item() * gpt.count_tokens(batch)
    assert gpt.count_tokens(together) == counts == 5 + 4 + 3 + 8
    assert gpt.loss_fn(model, together).item() == pytest.approx(total / counts, rel=1e-5)


def test_batches_are_a_function_of_the_step(tokenizer: gpt.Tokenizer) -> None:
    batches = gpt.Documents(NAMES, tokenizer, 8, batch_size=3, seed=5)
    forward = [batches(step)[0].tolist() for step in range(9)]
    backward = [batches(step)[0].tolist() for step in reversed(range(9))]
    assert forward == backward[::-1]
    passes = [sorted(batches.document(4 * epoch + i) for i in range(4)) for epoch in range(5)]
    assert all(rows == [0, 1, 2, 3] for rows in passes)  # each pass sees each document once


@pytest.mark.parametrize("batch_size", [1, 3])
def test_windows_go_through_the_text_in_pieces(batch_size: int) -> None:
    text = "".join(chr(97 + i) for i in range(26)) + "A"
    tokenizer = gpt.Tokenizer(text)
    windows = gpt.Windows(text, tokenizer, 4, batch_size, seed=3)
    assert (windows.size, windows.pieces, windows.spare) == (4, 6, 2)
    seen: list[str] = []
    for step in range(12 // batch_size):
        inputs, targets = windows(step)
        assert inputs.shape == targets.shape == (batch_size, 4)
        assert inputs[:, 1:].tolist() == targets[:, :-1].tolist()
        seen += [
            tokenizer.decode([*row, target[-1]])
            for row, target in zip(inputs.tolist(), targets.tolist(), strict=True)
        ]
        assert seen[-1] in text
    for pieces in (seen[:6], seen[6:]):  # a pass: all pieces, each once, one after another
        ordered = sorted(pieces, key=text.index)
        assert "".join(piece[:4] for piece in ordered) in text
    assert seen[:6] != sorted(seen[:6], key=text.index)
    assert windows(1)[0].tolist() == gpt.Windows(text, tokenizer, 4, batch_size, 3)(1)[0].tolist()
    assert gpt.Windows("ab", gpt.Tokenizer("ab"), 8)(5)[0].shape == (1, 1)
    with pytest.raises(ValueError, match="at least two characters"):
        gpt.Windows("a", gpt.Tokenizer("a"), 8)


def test_the_cache_gives_the_logits_of_the_whole(model: gpt.GPT) -> None:
    tokens = [0, 3, 1, 2, 4, 4, 0, 1]
    with bt.no_grad():
        whole = model(bt.tensor([tokens]))[0].tolist()
        logits, past = model.extend(bt.tensor([tokens[:3]]), None)
        rows = logits[0].tolist()
        for token in tokens[3:]:
            logits, past = model.extend(bt.tensor([[token]]), past)
            rows += logits[0].tolist()
    for row, expected in zip(rows, whole, strict=True):
        assert row == pytest.approx(expected, abs=1e-5)


def test_greedy_generation_without_a_cache(model: gpt.GPT, tokenizer: gpt.Tokenizer) -> None:
    tokens = [tokenizer.bos, 1]
    expected: list[int] = []
    while len(tokens) <= 8:
        tokens.append(int(model(bt.tensor([tokens]))[0, -1].argmax().item()))
        if tokens[-1] == tokenizer.bos:
            break
        expected.append(tokens[-1])
    assert model.generate([tokenizer.bos, 1], tokenizer.bos, temperature=0) == expected


def test_generation_follows_the_seed(model: gpt.GPT, tokenizer: gpt.Tokenizer) -> None:
    def names(seed: int) -> list[list[int]]:
        bt.manual_seed(seed)
        return [model.generate([tokenizer.bos], tokenizer.bos) for _ in range(5)]

    assert names(1) == names(1) != names(2)
    assert all(len(name) <= 8 and tokenizer.bos not in name for name in names(1))


def test_too_long_is_an_error(model: gpt.GPT, tokenizer: gpt.Tokenizer) -> None:
    with pytest.raises(ValueError, match="9 tokens, and block_size is 8"):
        model(bt.tensor([[0] * 9]))
    with pytest.raises(ValueError, match="9 tokens, and the block has 8"):
        model.generate([0] * 9, tokenizer.bos)
    with pytest.raises(ValueError, match="n_embd=10 must be a multiple of n_head=4"):
        gpt.GPT(5, n_embd=10, n_head=4)


def test_reading_documents(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_bytes("\ufeffanna \r\n\n  \nzoë\r\nlast".encode())
    assert gpt.read_documents(file) == ["anna", "zoë", "last"]
    assert len(gpt.read_documents(gpt.NAMES)) == 5163

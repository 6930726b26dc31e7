"""A character-level GPT that learns to invent names: model, tokenizer, data, and a run of it.

    python -m backtrail.examples.gpt

A language model guesses the next token, here the next character. A document is framed by a special
token BOS ("beginning of sequence", and its end too), so from `emma` the model learns five guesses:

    sees   BOS   BOS e   BOS em   BOS emm   BOS emma
    next   e     m       m        a         BOS

To invent a name, start from BOS, draw a next character from the guess, append it, and go on until
BOS comes up again.

Shapes in the comments: B documents, T tokens in each, C channels (the width, `n_embd`), H heads of
D = C / H channels, V tokens in the vocabulary.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import backtrail as bt
import backtrail.nn.functional as F
from backtrail import Tensor, nn

NAMES = Path(__file__).parent.parent / "data" / "census_first_names.txt"
IGNORE = -100  # the target at positions past the end of a document: they add nothing to the loss

MOST_AHEAD = 1 << 16  # documents of which batches of one are made before they are needed

KeysValues = tuple[Tensor, Tensor]


class Attention(nn.Module):
    """Causal self-attention: every position gathers what it needs from those up to it."""

    def __init__(self, n_embd: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.wq = nn.Linear(n_embd, n_embd, bias=False)  # what am I looking for?
        self.wk = nn.Linear(n_embd, n_embd, bias=False)  # what do I offer?
        self.wv = nn.Linear(n_embd, n_embd, bias=False)  # what do I pass on?
        self.wo = nn.Linear(n_embd, n_embd, bias=False)

    def forward(self, x: Tensor, past: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """Return the output (B, T, C) and all keys and values so far, those of `past` in front."""
        B, T, C = x.shape
        q, k, v = (
            w(x).view(B, T, self.n_head, -1).transpose(1, 2) for w in (self.wq, self.wk, self.wv)
        )
        if past is not None:
            k, v = bt.cat([past[0], k], dim=2), bt.cat([past[1], v], dim=2)
        # (B, H, T, D). A token that comes alone is the last one and may look at all before it.
        y = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        return self.wo(y.transpose(1, 2).reshape(B, T, C)), (k, v)


class Block(nn.Module):
    """One layer: attention across positions, then a small network at each, both added to x."""

    def __init__(self, n_embd: int, n_head: int) -> None:
        super().__init__()
        self.attention = Attention(n_embd, n_head)
        self.fc1 = nn.Linear(n_embd, 4 * n_embd, bias=False)
        self.fc2 = nn.Linear(4 * n_embd, n_embd, bias=False)

    def forward(self, x: Tensor, past: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        y, keys_values = self.attention(norm(x), past)
        x = x + y
        x = x + self.fc2(F.relu(self.fc1(norm(x))))
        return x, keys_values


def norm(x: Tensor) -> Tensor:
    """Scale each position to a root mean square of one."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


class GPT(nn.Module):
    """Tokens (B, T) in, logits (B, T, V) out: a score for each possible next token."""

    def __init__(
        self,
        vocab_size: int,
        block_size: int = 16,
        n_embd: int = 16,
        n_head: int = 4,
        n_layer: int = 1,
    ) -> None:
        super().__init__()
        if n_embd % n_head:
            raise ValueError(f"GPT: n_embd={n_embd} must be a multiple of n_head={n_head}")
        self.block_size = block_size  # the most positions that it can see
        self.wte = nn.Embedding(vocab_size, n_embd)  # what token
        self.wpe = nn.Embedding(block_size, n_embd)  # at what position
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.blocks = nn.ModuleList([Block(n_embd, n_head) for _ in range(n_layer)])
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.08)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.extend(tokens, None)[0]

    def extend(
        self, tokens: Tensor, past: list[KeysValues] | None
    ) -> tuple[Tensor, list[KeysValues]]:
        """Return the logits of `tokens`, which follow those `past` came from, and the new past."""
        x, new = self.features(tokens, past)
        return self.lm_head(x), new

    def features(
        self, tokens: Tensor, past: list[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        """Return what the output head reads, (B, T, C), and the new past."""
        seen = past[0][0].shape[2] if past else 0
        if seen + tokens.shape[1] > self.block_size:
            raise ValueError(
                f"GPT: {seen + tokens.shape[1]} tokens, and block_size is {self.block_size}"
            )
        x = norm(self.wte(tokens) + self.wpe.weight[seen : seen + tokens.shape[1]])
        new = []
        for i, block in enumerate(self.blocks):
            x, keys_values = block(x, past[i] if past else None)
            new.append(keys_values)
        return x, new

    def generate(self, prompt: Sequence[int], stop: int, temperature: float = 1.0) -> list[int]:
        """Draw tokens after `prompt` until `stop` comes up or the block is full; return them.

        Keys and values are kept, so each token is computed once. Below temperature 1 the likely
        tokens become likelier; 0 always takes the likeliest.
        """
        if not 0 < len(prompt) <= self.block_size:
            raise ValueError(f"generate: {len(prompt)} tokens, and the block has {self.block_size}")
        drawn: list[int] = []
        past, tokens = None, list(prompt)
        with bt.no_grad():
            for _ in range(self.block_size - len(prompt) + 1):
                logits, past = self.extend(bt.tensor([tokens]), past)
                logits = logits[0, -1]  # (V,) the guess after the last token
                if temperature == 0:
                    token = logits.argmax()
                else:
                    token = bt.multinomial((logits / temperature).softmax(dim=-1), 1)
                tokens = [int(token.item())]
                if tokens[0] == stop:
                    break
                drawn += tokens
        return drawn


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross entropy, in nats, of the next tokens."""
    tokens, targets = batch
    assert isinstance(model, GPT)
    x, _ = model.features(tokens)
    # The same as F.cross_entropy(model(tokens).flatten(0, 1), ...), without holding the logits.
    return F.linear_cross_entropy(
        x.flatten(0, 1), model.lm_head.weight, targets.flatten(), ignore_index=IGNORE
    )


class Tokenizer:
    """Characters to numbers and back; the last number is BOS."""

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = sorted(set(characters))
        self.ids = {character: i for i, character in enumerate(self.characters)}
        self.bos = len(self.characters)
        self.vocab_size = len(self.characters) + 1

    def encode(self, text: str) -> list[int]:
        return [self.ids[character] for character in text]

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.characters[token] for token in tokens)


class Documents:
    """Batches of documents, a function of the step alone: each pass is shuffled by the seed."""

    def __init__(
        self,
        documents: Sequence[str],
        tokenizer: Tokenizer,
        block_size: int,
        batch_size: int = 1,
        seed: int = 42,
    ) -> None:
        self.batch_size, self.seed = batch_size, seed
        bos = tokenizer.bos
        rows = [[bos, *tokenizer.encode(text), bos][: block_size + 1] for text in documents]
        # At most 16 different lengths: each is captured once (`backtrail.compile`).
        unit = -(-block_size // 16)
        self.lengths = [-(-(len(row) - 1) // unit) * unit for row in rows]
        self.width = max(self.lengths)
        # What fills up a short row cannot be seen from its real positions.
        fill = [self.width + 1 - len(row) for row in rows]
        self.inputs = bt.tensor([row[:-1] + [0] * n for row, n in zip(rows, fill, strict=True)])
        self.targets = bt.tensor(
            [row[1:] + [IGNORE] * n for row, n in zip(rows, fill, strict=True)]
        )
        self.in_a_row = self.inputs.view(1, -1), self.targets.view(1, -1)
        few = batch_size == 1 and len(rows) <= MOST_AHEAD
        self.ahead = [self.alone(row) for row in range(len(rows))] if few else []
        self.epoch, self.order = -1, list[int]()

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the inputs (B, T) of `step` and, one position on, their targets (B, T)."""
        if self.batch_size == 1:
            row = self.document(step)
            return self.ahead[row] if self.ahead else self.alone(row)
        first = step * self.batch_size
        return self.rows([self.document(i) for i in range(first, first + self.batch_size)])

    def alone(self, row: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of one document, without what fills up its row."""
        inputs, targets = self.in_a_row
        begin, length = row * self.width, self.lengths[row]
        return inputs.narrow(1, begin, length), targets.narrow(1, begin, length)

    def rows(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of some documents together."""
        longest, chosen = max(self.lengths[row] for row in rows), bt.tensor(rows)
        return (
            self.inputs.index_select(0, chosen)[:, :longest].contiguous(),
            self.targets.index_select(0, chosen)[:, :longest].contiguous(),
        )

    def document(self, index: int) -> int:
        """Return which document comes at a place in the run."""
        epoch, place = divmod(index, len(self.lengths))
        if epoch != self.epoch:
            self.epoch, self.order = epoch, list(range(len(self.lengths)))
            random.Random(self.seed + epoch).shuffle(self.order)
        return self.order[place]


class Windows:
    """Batches of windows of running text, a function of the step alone.

    Each pass cuts the text anew, from another place on, and goes through the pieces in an order
    that the seed gives.
    """

    def __init__(
        self, text: str, tokenizer: Tokenizer, block_size: int, batch_size: int = 1, seed: int = 42
    ) -> None:
        if len(text) < 2:
            raise ValueError("Windows: a text of at least two characters is needed")
        self.batch_size, self.seed = batch_size, seed
        self.tokens = bt.tensor([tokenizer.encode(text)])  # (1, N)
        self.size = min(block_size, len(text) - 1)
        self.spare = (len(text) - 1) % self.size  # characters that a pass leaves out
        self.pieces = (len(text) - 1) // self.size
        self.epoch, self.order = -1, list[int]()

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the inputs (B, T) of `step` and, one position on, their targets (B, T)."""
        first = step * self.batch_size
        places = [self.place(i) for i in range(first, first + self.batch_size)]
        return self.windows(places)

    def windows(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of the windows that begin at some places."""
        rows = [self.tokens.narrow(1, place, self.size + 1) for place in places]
        row = rows[0] if len(rows) == 1 else bt.cat(rows)
        return row.narrow(1, 0, self.size), row.narrow(1, 1, self.size)

    def place(self, index: int) -> int:
        """Return where the window begins that comes at a place in the run."""
        epoch, number = divmod(index, self.pieces)
        if epoch != self.epoch:
            draw = random.Random(self.seed + epoch)
            begin = draw.randint(0, self.spare)
            self.epoch = epoch
            self.order = [begin + self.size * i for i in range(self.pieces)]
            draw.shuffle(self.order)
        return self.order[number]


def count_tokens(batch: tuple[Tensor, Tensor]) -> int:
    """Return how many guesses a batch holds, padding left out."""
    targets = batch[1]
    return int((targets != IGNORE).sum().item()) if targets.shape[0] > 1 else targets.numel()


def read_documents(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a UTF-8 text file that are not blank, without the space around them."""
    return documents_of(read_text(path))


def read_text(path: str | os.PathLike[str]) -> str:
    """Return a UTF-8 text file with each line ended by a newline character, whoever wrote it."""
    text = Path(path).read_bytes().decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def documents_of(text: str) -> list[str]:
    """Return the lines that are not blank, without the space around them."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def main() -> None:
    from backtrail.train import fit

    steps = 1000
    bt.manual_seed(42)
    documents = read_documents(NAMES)
    tokenizer = Tokenizer("".join(documents))
    model = GPT(tokenizer.vocab_size)
    optimizer = bt.optim.Adam(model.parameters(), lr=0.01, betas=(0.85, 0.99))
    history = fit(
        model,
        loss_fn,
        Documents(documents, tokenizer, model.block_size),
        optimizer,
        steps=steps,
        scheduler=bt.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps),
    )
    print(f"loss {history.mean_loss():.3f}, the mean of the last 100 steps")
    for _ in range(20):
        print(tokenizer.decode(model.generate([tokenizer.bos], tokenizer.bos, temperature=0.5)))


if __name__ == "__main__":
    main()

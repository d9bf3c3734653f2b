"""Makes the lessons of the shipped model: `python -m lengthwise.proxy.neural.lessons --help`.

Prompts are put together from the training data's: cut to a sentence, the head of one joined with
the tail of another, words put in place of words of like use. An encoder as published reads them;
the means of four of its layers are kept (`lengthwise.predictors.lessons`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from lengthwise.predictors import corpus, lessons
from lengthwise.predictors.lexicon import read_vectors
from lengthwise.predictors.reading import cut
from lengthwise.proxy.neural.fit import require_train

if TYPE_CHECKING:
    from lengthwise.predictors.lexicon import WordVectors

Array = np.ndarray[Any, np.dtype[Any]]

LAYERS = (0, 2, 4, 6)
#: Tokens read of a text: the head's two thirds and the tail's third.
MAX_TOKENS = 72
BATCH = 32
LESSONS = 14_000
MAX_CHARS = 600
#: Share of lessons that begin as a prompt of open chat, that are joined, that are cut.
CHAT_SHARE, JOINED_SHARE, CUT_SHARE = 0.75, 0.35, 0.2
#: Shares of a text's words that others are put in place of.
REPLACED = (0.1, 0.3, 0.6)
NEIGHBOURS = 16
_WORD, _SENTENCE_END = re.compile(r"\w+"), re.compile(r"(?<=[.?!\n])\s")


class Likeness:
    """Words of like use: the nearest of a table of word vectors, by cosine, each looked up once."""

    def __init__(self, vectors: WordVectors) -> None:
        self.words = vectors.words
        self._place = {word: at for at, word in enumerate(vectors.words)}
        lengths = np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
        self._directions = vectors.vectors / np.maximum(lengths, 1e-12)
        self._near: dict[str, Array] = {}

    def draw(self, word: str, rng: np.random.Generator) -> str:
        """Draw a word near this one; this one if it is not in the table."""
        if word not in self._place:
            return word
        if word not in self._near:
            likeness = self._directions @ self._directions[self._place[word]]
            self._near[word] = np.argpartition(-likeness, NEIGHBOURS)[:NEIGHBOURS]
        return self.words[int(rng.choice(self._near[word]))]


def compose(
    prompts: list[str], first_arena: int, like: Likeness, rng: np.random.Generator
) -> tuple[str, tuple[int, int]]:
    """Put one text together; return it and the numbers of the prompts that it is made of."""
    chat = rng.random() < CHAT_SHARE
    head = int(rng.integers(first_arena) if chat else rng.integers(first_arena, len(prompts)))
    tail, text, drawn = -1, cut(prompts[head])[:MAX_CHARS], rng.random()
    if drawn < JOINED_SHARE:
        tail = int(rng.integers(len(prompts)))
        first, second = text.split(" "), cut(prompts[tail])[:MAX_CHARS].split(" ")
        begun = first[: max(2, min(len(first) // 2, 15))]
        text = " ".join(begun + second[len(second) // 2 :][:20])
    elif drawn < JOINED_SHARE + CUT_SHARE:
        text = _SENTENCE_END.split(text)[0]
    share = rng.choice(REPLACED)

    def other(found: re.Match[str]) -> str:
        word = found.group()
        return like.draw(word.lower(), rng) if rng.random() < share else word

    return _WORD.sub(other, text).replace("\0", " "), (head, tail)


def states_of(texts: list[str], words: Path) -> Array:
    """Read texts with an encoder: the mean over tokens of each of LAYERS, side by side."""
    import torch  # noqa: PLC0415  # an extra: training only

    from lengthwise.proxy.neural import bases  # noqa: PLC0415  # idem

    torch.set_num_threads(1)  # sums in the same order each time
    encoder, tokenizer = bases.load(str(words), max_length=MAX_TOKENS)
    encoder.eval()
    ids = [_ends(tokenizer.encode(cut(text)).ids) for text in texts]
    found = np.zeros((len(texts), len(LAYERS) * encoder.config.hidden_size), dtype=np.float32)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    with torch.inference_mode():
        for begin in range(0, len(order), BATCH):
            rows = order[begin : begin + BATCH]
            longest = max(len(ids[i]) for i in rows)
            tokens = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in rows])
            mask = torch.tensor([[1] * len(ids[i]) + [0] * (longest - len(ids[i])) for i in rows])
            said = encoder(input_ids=tokens, attention_mask=mask, output_hidden_states=True)
            share = (mask / mask.sum(dim=1, keepdim=True))[..., None]
            kept = [(said.hidden_states[layer] * share).sum(dim=1) for layer in LAYERS]
            found[rows] = torch.cat(kept, dim=1).numpy()
    return found


def _ends(ids: list[int]) -> list[int]:
    head = MAX_TOKENS * 2 // 3
    return ids if len(ids) <= MAX_TOKENS else ids[:head] + ids[head - MAX_TOKENS :]


def level_layers(prompts: Array, others: Array) -> tuple[Array, Array]:
    """Bring every layer to the same spread over the prompts, so that none drowns the others."""
    both = [states.reshape(len(states), len(LAYERS), -1) for states in (prompts, others)]
    spread = np.linalg.norm(both[0] - both[0].mean(axis=0), axis=2).mean(axis=0)[:, None]
    flat = [(layers / spread).reshape(len(layers), -1) for layers in both]
    return flat[0], flat[1]


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Training data.")
@click.option("--words", type=click.Path(path_type=Path), required=True, help="The encoder.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option("--count", type=int, default=LESSONS, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(data: Path, words: Path, out: Path, count: int, seed: int) -> None:
    """Put prompts together and write what an encoder makes of them."""
    require_train()
    read = corpus.read_corpus(data)
    rng, like = np.random.default_rng(seed), Likeness(read_vectors(words))
    made = [compose(read.prompts, read.first_arena, like, rng) for _ in range(count)]
    texts = [text for text, _ in made]
    prompt_states, states = level_layers(states_of(read.prompts, words), states_of(texts, words))
    source = np.array([numbers for _, numbers in made])
    lessons.save(out, texts, source, states, prompt_states)
    click.echo(f"{out}: {count} lessons of {len(read.prompts)} prompts", err=True)


if __name__ == "__main__":
    main()

"""The byte-level BPE of GPT-2 (Radford et al., 2019), as GLIDE uses it: of lower-case text, padded to one length."""

import gzip
import logging
import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from tenshot.errors import InputError

__all__ = ["Tokenizer"]

log = logging.getLogger(__name__)

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTES = [*_PRINTABLE, *sorted(set(range(256)) - set(_PRINTABLE))]
"""Bytes in the order of their tokens: those first that GPT-2's files show as themselves."""
_SHOWN = {chr(b if place < len(_PRINTABLE) else 256 + place - len(_PRINTABLE)): b for place, b in enumerate(_BYTES)}
"""How those files show a byte."""
_CONTRACTION = re.compile(r"'(?:s|t|re|ve|m|ll|d)")
_PIECE = re.compile(r" ?L+| ?N+| ?o+|[ w]+(?![LNo])|[ w]+")
"""Of :func:`_kinds`: letters, digits or other characters, each after at most one space; or white space."""


class Tokenizer:
    """Turn texts into the tokens of GLIDE.

    Args:
        path: GPT-2's list of merges, ``vocab.bpe`` or ``vocab.bpe.gz``, which GLIDE's repository holds in
            ``glide_text2im/tokenizer``.

    Raises:
        InputError: The file is missing, or no such list.
    """

    def __init__(self, path: str | Path) -> None:
        self.tokens = {bytes([byte]): number for number, byte in enumerate(_BYTES)}
        self.ranks: dict[tuple[bytes, bytes], int] = {}
        for rank, (first, second) in enumerate(_merges(Path(path))):
            if first not in self.tokens or second not in self.tokens:
                raise InputError(f"{path}: broken: merge {rank} is of tokens that no merge before it makes")
            self.ranks[first, second] = rank
            self.tokens[first + second] = len(_BYTES) + rank
        self.padding = len(_BYTES) + len(self.ranks)
        """The token after the last: of GPT-2 the end of a text, of GLIDE the padding."""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are: 50257 of GPT-2."""
        return self.padding + 1

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, in lower case, without padding."""
        words = (self._word(piece.encode()) for piece in _pieces(text.lower()))
        return [token for word in words for token in word]

    def __call__(self, texts: Sequence[str], length: int = 128) -> dict[str, Tensor]:
        """Texts as a condition of :class:`tenshot.models.glide.GlideUNet`.

        Args:
            texts: N of them; an empty one is no condition.
            length: Of a text in tokens; longer ones are cut, which is said.

        Returns:
            ``tokens`` (N, length) int64, padded at the end, and ``tokens_mask`` (N, length) bool, False at the padding.
        """
        tokens = torch.full((len(texts), length), self.padding)
        for row, text in zip(tokens, texts, strict=True):
            found = self.encode(text)
            if len(found) > length:
                log.warning("a text of %d tokens is cut to %d: %s", len(found), length, text)
            row[: len(found)] = torch.tensor(found[:length])
        return {"tokens": tokens, "tokens_mask": tokens != self.padding}

    @lru_cache(maxsize=10_000)  # noqa: B019 - one tokenizer lives as long as the program
    def _word(self, word: bytes) -> list[int]:
        """Join the pair whose merge comes first in the list, everywhere, until no pair has a merge."""
        parts = [word[place : place + 1] for place in range(len(word))]
        while pairs := [pair for pair in pairwise(parts) if pair in self.ranks]:
            first, second = min(pairs, key=self.ranks.__getitem__)
            joined: list[bytes] = []
            for part in parts:
                if joined and joined[-1] == first and part == second:
                    joined[-1] = first + second
                else:
                    joined.append(part)
            parts = joined
        return [self.tokens[part] for part in parts]


def _pieces(text: str) -> Iterator[str]:
    """A text in the pieces that no merge crosses."""
    kinds, place = _kinds(text), 0
    while place < len(text):
        match = _CONTRACTION.match(text, place) or _PIECE.match(kinds, place)
        assert match is not None
        yield text[place : match.end()]
        place = match.end()


def _kinds(text: str) -> str:
    """A letter for each character: L letters, N numbers, w white space but for the space itself, o others."""

    def kind(character: str) -> str:
        if character == " ":
            return " "
        if character.isspace() and not "\x1c" <= character <= "\x1f":  # separators, no white space of Unicode
            return "w"
        category = unicodedata.category(character)[0]
        return category if category in "LN" else "o"

    return "".join(map(kind, text))


def _merges(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of a file, in its order."""
    try:
        content = path.read_bytes()
        lines = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode().splitlines()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as GPT-2's vocab.bpe ({error})") from None
    if not lines or not lines[0].startswith("#version"):
        raise InputError(f"{path}: not GPT-2's vocab.bpe, whose first line is #version: 0.2")
    for number, line in enumerate(lines[1:], 2):
        parts = line.split()
        if len(parts) != 2 or not set(line) <= {" ", *_SHOWN}:
            raise InputError(f"{path}: broken: line {number} is no pair of tokens: {line[:40]!r}")
        first, second = (bytes(_SHOWN[character] for character in part) for part in parts)
        yield first, second

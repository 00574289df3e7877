"""GLIDE's tokens: against a BPE that replaces merge by merge, and against the official code where that is at hand."""

import gzip
import os
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from official_code import official
from tiny import refusal

from tenshot.models.glide import Tokenizer
from tenshot.models.glide.tokenizer import _pieces

SENTENCES = [
    "an oil painting of a corgi",
    "An OIL Painting",
    "",
    "  two  spaces,\n\nlines\tand tabs  ",
    "it's they've i'll we're don't o'clock '' 's",
    "12 km2 x^2+y_1 = 3.5e-7 (½ ②) #!?",
    "café naïve — 東京 の 😀 \u00a0hard\u2003space",
    "aaaa aaa abababa",
]


def shown(word: bytes) -> str:
    """As GPT-2's files show bytes: printable ones as themselves, the others as characters from U+0100 on."""
    printable = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or b >= 0xAE]
    others = [b for b in range(256) if b not in printable]
    return "".join(chr(b) if b in printable else chr(256 + others.index(b)) for b in word)


def learnt_merges() -> list[tuple[bytes, bytes]]:
    """The most frequent pairs of the sentences, one after the other, and a few of one character repeated."""
    words = [[bytes([b]) for b in piece.encode()] for s in SENTENCES for piece in _pieces(s.lower())]
    merges: list[tuple[bytes, bytes]] = [(b"a", b"a")]
    for _ in range(40):
        words = [replaced(word, merges[-1]) for word in words]
        pairs = [pair for word in words for pair in pairwise(word)]
        merges.append(max(sorted(set(pairs)), key=pairs.count))
    return merges


def replaced(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """From the left, every occurrence of the pair joined."""
    out, place = [], 0
    while place < len(word):
        both = tuple(word[place : place + 2]) == pair
        out.append(b"".join(word[place : place + 1 + both]))
        place += 1 + both
    return out


@pytest.fixture(scope="module")
def merges() -> list[tuple[bytes, bytes]]:
    return learnt_merges()


@pytest.fixture(scope="module")
def file(merges: list[tuple[bytes, bytes]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.bpe"
    path.write_text("#version: 0.2\n" + "".join(f"{shown(a)} {shown(b)}\n" for a, b in merges), encoding="utf-8")
    return path


@pytest.mark.parametrize("sentence", SENTENCES)
def test_tokens_are_those_of_merge_after_merge(sentence, merges, file):
    tokenizer = Tokenizer(file)
    first = sorted(
        range(256), key=lambda b: (shown(bytes([b])) != chr(b), b)
    )  # of a byte its place in the file's order
    names = [bytes([b]) for b in first] + [a + b for a, b in merges]
    expected = []
    for piece in _pieces(sentence.lower()):
        word = [bytes([b]) for b in piece.encode()]
        for pair in merges:
            word = replaced(word, pair)
        expected += [names.index(part) for part in word]
    assert tokenizer.encode(sentence) == expected
    assert b"".join(names[token] for token in tokenizer.encode(sentence)) == sentence.lower().encode()
    assert tokenizer.vocabulary == 256 + len(merges) + 1


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("an oil painting", ["an", " oil", " painting"]),
        ("it's o'clock", ["it", "'s", " o", "'", "clock"]),
        ("we'll've'd", ["we", "'ll", "'ve", "'d"]),
        ("a  b\n\nc \n", ["a", " ", " b", "\n", "\n", "c", " \n"]),
        ("12km2, x_1!", ["12", "km", "2", ",", " x", "_", "1", "!"]),
        ("½② 東京é", ["½②", " 東京é"]),
        ("!'s", ["!'", "s"]),
        ("x\u00a0y", ["x", "\u00a0", "y"]),
        ("  ", ["  "]),
        ("", []),
    ],
)
def test_no_merge_crosses_these_pieces(text, pieces):
    assert list(_pieces(text)) == pieces


def test_a_batch_is_padded_masked_and_cut(file, caplog):
    tokenizer = Tokenizer(file)
    tokens, long = tokenizer.encode("corgi"), "an oil painting of a corgi"
    caplog.set_level("WARNING")
    batch = tokenizer(["corgi", "", long], length=8)
    padding = tokenizer.vocabulary - 1
    assert batch["tokens"].dtype == torch.int64
    assert batch["tokens"][0].tolist() == tokens + [padding] * (8 - len(tokens))
    assert batch["tokens_mask"][0].tolist() == [True] * len(tokens) + [False] * (8 - len(tokens))
    assert batch["tokens"][1].tolist() == [padding] * 8
    assert not batch["tokens_mask"][1].any()
    assert batch["tokens"][2].tolist() == tokenizer.encode(long)[:8]
    assert batch["tokens_mask"][2].all()
    (said,) = caplog.messages
    assert f"{len(tokenizer.encode(long))} tokens is cut to 8" in said


def test_the_file_may_be_compressed(file, tmp_path):
    (tmp_path / "vocab.bpe.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert Tokenizer(tmp_path / "vocab.bpe.gz").encode(SENTENCES[0]) == Tokenizer(file).encode(SENTENCES[0])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["cannot be read", "vocab.bpe"]),
        (b"\x1f\x8b broken", ["cannot be read"]),
        (b"\xff\xfe", ["cannot be read"]),
        (b'{"a": 1}', ["not GPT-2's vocab.bpe", "#version: 0.2"]),
        (b"", ["not GPT-2's vocab.bpe"]),
        (b"#version: 0.2\na b\na b c\n", ["line 3", "a b c"]),
        (b"#version: 0.2\na \xe6\x9d\xb1\n", ["line 2"]),
        (b"#version: 0.2\nab c\n", ["merge 0", "no merge before it"]),
    ],
)
def test_another_file_is_refused_in_one_line(content, words, tmp_path):
    path = tmp_path / "merges.txt"
    if content is not None:
        path.write_bytes(content)
    refusal(lambda: Tokenizer(path), "merges.txt", *words)


def test_official_tokens():
    pytest.importorskip("regex")
    theirs = official("GLIDE_TEXT2IM", "glide_text2im.tokenizer.bpe").get_encoder()
    ours = Tokenizer(Path(os.environ["GLIDE_TEXT2IM"], "glide_text2im", "tokenizer", "vocab.bpe.gz"))
    assert ours.encode("an oil painting of a corgi") == [272, 3056, 12036, 286, 257, 1162, 12397]
    assert ours.vocabulary == theirs.n_vocab == 50257
    assert ours.padding == theirs.end_token == 50256
    for sentence in [*SENTENCES, "".join(map(chr, range(0x500))), "\x1c a\x1fb\u2028c\u3000d"]:
        assert ours.encode(sentence) == theirs.encode(sentence)
        batch = ours([sentence])
        tokens, mask = theirs.padded_tokens_and_mask(theirs.encode(sentence), 128)
        assert (batch["tokens"][0].tolist(), batch["tokens_mask"][0].tolist()) == (tokens, mask)

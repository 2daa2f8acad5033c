"""Judging ``tokenizer.json`` before the compiled tokenizers library reads it.

Its parts are of closed lists, its numbers are those of a vocabulary, and its patterns are short and
repeat nothing that repeats itself, since their engine tries every way to match. Source:
https://github.com/huggingface/tokenizers, ``tokenizers/src``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from holdfast.errors import Corrupt, Unsupported

__all__ = ["judge_tokenizer", "read_tokenizer_json"]

_MOST_BYTES: Final = 256 << 20
_DEEPEST: Final = 24
_LONGEST_PATTERN: Final = 4096
_MOST_IDS: Final = 2**24
_PARTS: Final = frozenset(
    {
        "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
        "post_processor", "decoder", "model",
    }
)  # fmt: skip
_KINDS: Final = {
    "normalizer": frozenset(
        {
            "BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt",
            "Precompiled", "Prepend", "Replace", "Sequence", "Strip", "StripAccents",
        }
    ),
    "pre_tokenizer": frozenset(
        {
            "BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Delimiter", "Digits",
            "FixedLength", "Metaspace", "Punctuation", "Sequence", "Split", "UnicodeScripts",
            "Whitespace", "WhitespaceSplit",
        }
    ),
    "post_processor": frozenset(
        {"BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"}
    ),
    "decoder": frozenset(
        {
            "BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Replace",
            "Sequence", "Strip", "WordPiece",
        }
    ),
}  # fmt: skip
_MODELS: Final = frozenset({"BPE", "Unigram", "WordLevel", "WordPiece"})


def read_tokenizer_json(data: bytes | memoryview) -> dict[str, Any]:
    """Parse a tokenizer's file and judge it.

    Raises:
        Corrupt: It is no JSON, or contradicts itself.
        Unsupported: It has a part that is not known.
    """
    if memoryview(data).nbytes > _MOST_BYTES:
        raise Corrupt("tokenizer.json is larger than any tokenizer's")
    try:
        told = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"tokenizer.json is not JSON: {error!s:.100}") from error
    judge_tokenizer(told)
    return dict(told)


def judge_tokenizer(told: Any) -> None:
    """Judge the parsed file; raises as ``read_tokenizer_json``."""
    if not isinstance(told, dict) or not isinstance(told.get("model"), dict):
        raise Corrupt("tokenizer.json has no model")
    unknown = sorted(told.keys() - _PARTS)
    if unknown:
        raise Unsupported(f"tokenizer.json has the unknown part {unknown[0]!r:.60}")
    for part, kinds in _KINDS.items():
        _judge_part(part, told.get(part), kinds, 0)
    _judge_model(told["model"])
    added = told.get("added_tokens") or []
    if not isinstance(added, list) or not all(_is_added(token) for token in added):
        raise Corrupt("tokenizer.json has added tokens that are none")


def _is_added(token: Any) -> bool:
    return (
        isinstance(token, dict)
        and isinstance(token.get("content"), str)
        and _is_id(token.get("id"))
    )


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_IDS


def _judge_part(part: str, told: Any, kinds: frozenset[str], depth: int) -> None:
    if told is None:
        return
    if not isinstance(told, dict) or depth > _DEEPEST:
        raise Corrupt(f"tokenizer.json has a {part} of an impossible form")
    kind = told.get("type")
    if kind not in kinds:
        raise Unsupported(f"tokenizer.json has the {part} {kind!r:.60}, of which nothing is known")
    for value in told.values():
        for inner in value if isinstance(value, list) else (value,):
            if isinstance(inner, dict) and "type" in inner:
                _judge_part(part, inner, kinds, depth + 1)
            elif isinstance(inner, dict) and isinstance(inner.get("Regex"), str):
                _judge_pattern(inner["Regex"])


def _judge_pattern(pattern: str) -> None:
    if len(pattern) > _LONGEST_PATTERN:
        raise Corrupt("tokenizer.json has a pattern longer than any that is kept")
    if any(_repeats_twice(body) for body in _repeated_groups(pattern)):
        raise Unsupported(
            f"tokenizer.json has the pattern {pattern!r:.80}, in which something repeats that "
            "repeats itself; some texts would take for ever.",
            hint="tokenizer.backend_tokenizer.pre_tokenizer  # to see it",
        )


_REPEAT: Final = re.compile(r"[*+]|\{\d*,\}")
_ESCAPE: Final = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]", re.DOTALL)


def _repeated_groups(pattern: str) -> Iterator[str]:
    """Yield the bodies of groups that a ``*``, ``+`` or ``{n,}`` follows, without their classes."""
    plain = _ESCAPE.sub("x", pattern)
    opened: list[int] = []
    for place, char in enumerate(plain):
        if char == "(":
            opened.append(place)
        elif char == ")" and opened:
            start = opened.pop()
            after = _REPEAT.match(plain, place + 1)
            possessive = after is not None and plain[after.end() : after.end() + 1] == "+"
            if after is not None and not possessive:
                yield plain[start + 1 : place]


def _repeats_twice(body: str) -> bool:
    return _REPEAT.search(body) is not None


def _judge_model(model: dict[str, Any]) -> None:
    kind = model.get("type")
    if kind is not None and kind not in _MODELS:
        raise Unsupported(f"tokenizer.json has the model {kind!r:.60}, of which nothing is known")
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        if not all(map(_is_id, vocabulary.values())):
            raise Corrupt("tokenizer.json has a word without a number")
    elif not isinstance(vocabulary, list):
        raise Corrupt("tokenizer.json has no vocabulary")
    elif not all(_is_scored(item) for item in vocabulary):
        raise Corrupt("tokenizer.json has a piece without a score")
    unknown = model.get("unk_id")
    if unknown is not None and not (_is_id(unknown) and unknown < len(vocabulary)):
        raise Corrupt("tokenizer.json has its unknown word outside the vocabulary")


def _is_scored(item: Any) -> bool:
    return (
        isinstance(item, list)
        and len(item) == 2
        and isinstance(item[0], str)
        and type(item[1]) in (int, float)
    )

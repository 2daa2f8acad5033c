"""Judging chat templates: Jinja text that a tokenizer or a server will run.

A template formats messages. One that reaches for Python's inner attributes or for other files does
something else, whatever it prints. Only what is inside ``{{ }}`` and ``{% %}`` is a program. Source
of the syntax: https://jinja.palletsprojects.com/en/stable/templates/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["LONGEST", "suspicions"]

# Characters of a template that are judged.
LONGEST: Final = 4 << 20
_CODE: Final = re.compile(r"\{[{%].*?(?:[}%]\}|\Z)", re.DOTALL)

# Python's inner attributes by which escapes are made; other names with underscores are harmless.
_INNER: Final = (
    "annotations|base|bases|builtins|call|class|closure|code|context|defaults|delattr|dict|doc|file"
    "|format|func|get|getattr|getattribute|getitem|globals|import|init|init_subclass|kwdefaults"
    "|loader|module|mro|name|new|qualname|reduce|reduce_ex|self|set|setattr|slots|spec|subclasses"
    "|subclasshook|wrapped"
)
_FRAMES: Final = (
    "ag_code|ag_frame|co_code|co_consts|cr_code|cr_frame|f_back|f_builtins|f_globals|f_locals"
    "|func_code|func_globals|gi_code|gi_frame|tb_frame|tb_next"
)
_MODULES: Final = "builtins|ctypes|importlib|os|posix|pty|shutil|socket|subprocess|sys"
_CALLS: Final = "check_output|compile|eval|exec|getattr|import_module|open|popen|setattr|system"
_SERVERS: Final = "config|cycler|get_flashed_messages|joiner|lipsum|request|url_for"

# What is looked for, to what it means.
_SUSPICIOUS: Final = {
    rf"__(?:{_INNER})__|[.\[]\s*['\"]?__\w": "reaches for Python's inner attributes",
    r"\\x5f|\\u005f|\\137|\\N\{LOW LINE\}": "spells an underscore as an escape",
    r"\|\s*attr\b|\bmap\s*\(\s*attribute\s*=\s*['\"]_": "looks up an attribute by a text",
    rf"\b(?:{_FRAMES})\b": "reaches for Python's frames",
    rf"\b(?:{_MODULES})\s*\.\s*[a-z_]\w*\s*\(": "calls into a Python module",
    rf"\b(?:{_CALLS})\s*\(": "calls a function that runs code or opens files",
    r"\{%[-+]?\s*(?:include|import|extends|from)\b": "takes in another file",
    rf"\b(?:{_SERVERS})\s*[.\[]\s*['\"]?_": "reaches for the server's own objects",
}
_PATTERNS: Final = {re.compile(text, re.IGNORECASE): words for text, words in _SUSPICIOUS.items()}
_INNER_NAME: Final = next(iter(_PATTERNS))
# Ways to put a name together from pieces.
_DOUBLED: Final = re.compile(r"(['\"])_\1\s*\*\s*2")
_JOINED: Final = re.compile(r"['\"]\s*[~+]\s*['\"]")


def suspicions(template: str) -> Iterator[tuple[str, int]]:
    """Yield what a template does that formatting messages does not need, and at which character.

    Each kind of thing is told once. Quiet text is not proven harmless: whoever runs a template
    should run it in a sandbox.
    """
    told: set[str] = set()
    for code in _CODE.finditer(template[:LONGEST]):
        for words, shown, place in _found(code[0]):
            if words not in told:
                told.add(words)
                yield f"{words}: {shown}", code.start() + place
    if len(template) > LONGEST:
        yield f"goes on after {LONGEST} characters, which is no template", LONGEST


def _found(code: str) -> Iterator[tuple[str, str, int]]:
    for pattern, words in _PATTERNS.items():
        found = pattern.search(code)
        if found is not None:
            yield words, repr(" ".join(found[0].split()))[:60], found.start()
    whole = _JOINED.sub("", _DOUBLED.sub("'__'", code))
    found = _INNER_NAME.search(whole) if whole != code else None
    if found is not None:
        yield "puts the name of an inner attribute together", repr(found[0])[:60], 0

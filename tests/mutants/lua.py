"""Mutants of a Lua script: each differs from it in one small place, as a slip of the pen would.

Operators and words are exchanged, numbers moved, conditions forced, statements and last arguments
dropped. Comments stay, and so do the names of Redis' commands, but for those that have a twin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_TOKEN = re.compile(
    r"""--[^\n]*|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|\d+(?:e\d+)?|[A-Za-z_]\w*"""
    r"""|==|~=|<=|>=|\.{2,3}|\S"""
)
_EXCHANGED = {
    "==": ["~="],
    "~=": ["=="],
    "<": ["<=", ">="],
    "<=": ["<", ">"],
    ">": [">=", "<="],
    ">=": [">", "<"],
    "and": ["or"],
    "or": ["and"],
    "not": [""],
    "+": ["-"],
    "-": ["+"],
    "*": ["+"],
    "true": ["false"],
    "false": ["true"],
    "min": ["max"],
    "max": ["min"],
    "floor": ["ceil"],
    "'LPUSH'": ["'RPUSH'"],
    "'RPUSH'": ["'LPUSH'"],
    "'RPOP'": ["'LPOP'"],
    "'-inf'": ["'+inf'"],
    "'+inf'": ["'-inf'"],
    "'(0'": ["'0'"],
}
_KEYWORDS = set(
    "and break do else elseif end false for function if in local nil not or repeat return then true "
    "until while".split()
)
_OPTIONS = {"'RANK'", "'COUNT'", "'WITHSCORES'", "'NX'"}
_CONTINUES = set(", = ( [ { .. + - * / < > <= >= == ~= and or not # return".split())
_OPEN, _CLOSE = set("([{"), set(")]}")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong version of a script.

    Attributes:
        script: the script's name; "lib/head" is a part that several scripts include.
        line: where the difference begins, from 1.
        right: the line, or lines, as they are, without comments and indentation …
        wrong: … and as they are in the mutant.
        source: the whole text of the mutant.
    """

    script: str
    line: int
    right: str
    wrong: str
    source: str


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int
    stop: int
    first: bool  # it begins a line


Edit = tuple[int, int, str]  # from where to where, and what stands there instead


def mutants_of(script: str, source: str) -> list[Mutant]:
    """Make every mutant of a script, in the order of its lines; no two are alike."""
    tokens = list(_tokens(source))
    found: dict[str, Mutant] = {}
    makers = (_exchanged, _strings, _numbers, _conditions, _statements, _arguments)
    for edit in sorted(edit for maker in makers for edit in maker(tokens)):
        mutant = _apply(script, source, edit)
        if mutant.wrong != mutant.right:
            found.setdefault(mutant.source, mutant)
    return list(found.values())


def _tokens(source: str) -> Iterator[_Token]:
    line = 0
    for match in _TOKEN.finditer(source):
        number = source.count("\n", 0, match.start()) + 1
        if match[0].startswith("--") or (number == 1 and source.startswith("#!")):
            continue
        yield _Token(match[0], match.start(), match.end(), first=number != line)
        line = number


def _apply(script: str, source: str, edit: Edit) -> Mutant:
    start, stop, text = edit
    begin = source.rfind("\n", 0, start) + 1
    end = source.find("\n", stop)
    right = source[begin:end]
    wrong = source[begin:start] + text + source[stop:end]
    line = source.count("\n", 0, start) + 1
    mutated = source[:start] + text + source[stop:]
    return Mutant(script, line, _folded(right), _folded(wrong), mutated)


def _folded(lines: str) -> str:
    return " ".join(re.sub(r"\s--\s.*", "", lines).split())


def _exchanged(tokens: Sequence[_Token]) -> Iterator[Edit]:
    for before, token in pairwise(tokens):
        texts = _EXCHANGED.get(token.text, [])
        if token.text == "-" and (before.text in _CONTINUES or before.text in _KEYWORDS):
            texts = [""]  # a sign
        for text in texts:
            yield token.start, token.stop, text


def _strings(tokens: Sequence[_Token]) -> Iterator[Edit]:
    for i, token in enumerate(tokens):
        if token.text[0] not in "'\"" or [t.text for t in tokens[i - 2 : i]] == ["call", "("]:
            continue
        quote, inner = token.text[0], token.text[1:-1]
        yield token.start, token.stop, f"{quote}XX{inner}{quote}"
        if inner.startswith("^"):
            yield token.start, token.stop, f"{quote}{inner[1:]}{quote}"
        for mark, other in (("*", "+"), ("+", "*"), ("?", ""), ("$", "")):
            if "%" in inner and mark in inner:
                yield token.start, token.stop, quote + inner.replace(mark, other) + quote


def _numbers(tokens: Sequence[_Token]) -> Iterator[Edit]:
    for token in tokens:
        if token.text.isdecimal():
            n = int(token.text)
            others = [n + 1, n - 1] if n < 1_000 else [0, n * 10]
            yield from ((token.start, token.stop, str(other)) for other in others if other >= 0)


def _conditions(tokens: Sequence[_Token]) -> Iterator[Edit]:
    for i, token in enumerate(tokens):
        if token.text not in {"if", "elseif", "while"}:
            continue
        closes = "do" if token.text == "while" else "then"
        last = next(j for j in range(i, len(tokens)) if tokens[j + 1].text == closes)
        # A loop that never ends would stop its server; one that never begins is enough.
        for text in ("false",) if token.text == "while" else ("false", "true"):
            yield tokens[i + 1].start, tokens[last].stop, text


def _statements(tokens: Sequence[_Token]) -> Iterator[Edit]:
    """Drop calls and assignments; not those of a new name, which nothing could do without."""
    for i, token in enumerate(tokens):
        if not re.match(r"[A-Za-z_]", token.text) or token.text in _KEYWORDS:
            continue
        before = tokens[i - 1].text if i else ""
        if before in {"then", "do", "else"} or (token.first and before not in _CONTINUES):
            last = _end_of_statement(tokens, i)
            yield token.start, tokens[last].stop, ""


def _end_of_statement(tokens: Sequence[_Token], start: int) -> int:
    depth = 0
    for i in range(start, len(tokens)):
        text = tokens[i].text
        depth += (text in _OPEN or text == "function") - (text in _CLOSE)
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        if depth and text == "end":
            depth -= 1
        if depth == 0 and (
            following is None
            or following.text in {"end", "else", "elseif", "return"}
            or (following.first and following.text not in _CONTINUES and text not in _CONTINUES)
        ):
            return i
    return len(tokens) - 1


def _arguments(tokens: Sequence[_Token]) -> Iterator[Edit]:
    """Drop the last argument of a call, with the option's name before it."""
    for i, token in enumerate(tokens):
        before = tokens[i - 1].text if i else ""
        if token.text != "(" or not re.match(r"[A-Za-z_]", before) or before in _KEYWORDS:
            continue
        if i > 1 and tokens[i - 2].text == "function":
            continue
        depth, commas = 0, []
        for j in range(i, len(tokens)):
            depth += (tokens[j].text in _OPEN) - (tokens[j].text in _CLOSE)
            if depth == 1 and tokens[j].text == ",":
                commas.append(j)
            if depth == 0:
                break
        if len(commas) > 1 and tokens[commas[-1] - 1].text in _OPTIONS:
            yield tokens[commas[-2]].start, tokens[j].start, ""
        elif commas:
            yield tokens[commas[-1]].start, tokens[j].start, ""

"""Conditions on answers, such as `label in {person, car} and score > 0.6`.

    condition   = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = "not" negation | "(" condition ")" | comparison
    comparison  = "score" ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) NUMBER
                | ( "label" | "edge" ) ( "==" | "!=" ) TEXT
                | ( "label" | "edge" ) [ "not" ] "in" "{" TEXT { "," TEXT } "}"

A TEXT is a word of letters, digits, _ and -, or anything in quotes. Texts are compared without regard to case, and _ is
a space. An answer has several lines, each a label with its score. A condition holds for an answer if it holds for one
of its lines.

The parser makes a tree of functions out of the comparisons above. Nothing of the text is ever run as code.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from gradfec_common.errors import UsageError

TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?![\w.]))|(?P<word>[^\W\d][\w-]*)|(?P<quoted>\"[^\"]*\"|'[^']*')"
    r"|(?P<sign>[=!<>]=|[<>(){},])"
)
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
TEXTS = ("label", "edge")
RESERVED = {"and", "or", "not", "in", "score", *TEXTS}
MAX_DEPTH = 50  # of parentheses and `not`s


class Line(NamedTuple):
    """A line of an answer, and the edge that it is for."""

    label: str
    score: float
    edge: str


Test = Callable[[Line], bool]


@dataclass(frozen=True)
class Condition:
    """A condition that has been read."""

    test: Test

    def holds(self, edge: str, lines: Iterable[tuple[str, float]]) -> bool:
        """Return whether the condition holds for one of the `lines` of an answer."""
        return any(self.test(Line(plain(label), score, plain(edge))) for label, score in lines)


def plain(text: str) -> str:
    """Return a text as it is compared."""
    return text.replace("_", " ").casefold()


def read_condition(text: str, labels: AbstractSet[str] = frozenset()) -> Condition:
    """Read a condition; UsageError, which says what is wrong and in which column, for anything else.

    If `labels` are given, it may not name others.
    """
    parser = _Parser(text, labels)
    test = parser.condition(0)
    parser.end()
    return Condition(test)


def check_label(label: str, known: AbstractSet[str]) -> None:
    """Raise UsageError, with what it may have meant, if labels are known and this is none of them."""
    by_text = {plain(one): one for one in known}
    if by_text and plain(label) not in by_text:
        with_the_word = sorted(one for one in by_text if plain(label) in one.split())  # `cat` is in `Egyptian cat`
        near = with_the_word[:3] or difflib.get_close_matches(plain(label), by_text, n=2)
        hint = f": did you mean {' or '.join(by_text[one] for one in near)}?" if near else ""
        raise UsageError(f"no network here has the label {label!r}{hint}")


class _Token(NamedTuple):
    kind: str  # a group of TOKEN, or "end"
    text: str
    column: int

    @property
    def is_text(self) -> bool:
        return self.kind == "quoted" or (self.kind == "word" and self.text not in RESERVED)


class _Parser:
    """Reads a condition from left to right, one token ahead."""

    def __init__(self, text: str, labels: AbstractSet[str]) -> None:
        self._tokens, self._labels = _tokens(text), labels
        self._at = 0

    def condition(self, depth: int) -> Test:
        tests = [self._conjunction(depth)]
        while self._take("or"):
            tests.append(self._conjunction(depth))
        return tests[0] if len(tests) == 1 else lambda line: any(test(line) for test in tests)

    def _conjunction(self, depth: int) -> Test:
        tests = [self._negation(depth)]
        while self._take("and"):
            tests.append(self._negation(depth))
        return tests[0] if len(tests) == 1 else lambda line: all(test(line) for test in tests)

    def _negation(self, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise self._wrong(f"at most {MAX_DEPTH} levels of parentheses")
        if self._take("not"):
            test = self._negation(depth + 1)
            return lambda line: not test(line)
        if self._take("("):
            test = self.condition(depth + 1)
            self._need(")")
            return test
        return self._comparison()

    def _comparison(self) -> Test:
        if self._take("score"):
            compare, number = self._sign(SIGNS), self._number()
            return lambda line: compare(line.score, number)
        for name in TEXTS:
            if self._take(name):
                return self._text_comparison(name)
        raise self._wrong("label, score or edge")

    def _text_comparison(self, name: str) -> Test:
        read = operator.attrgetter(name)
        negated = self._take("not")
        if negated or self._next.text == "in":
            self._need("in")
            texts = self._set(name)
        else:
            negated = self._sign(("==", "!=")) is operator.ne
            texts = frozenset({self._text(name)})
        return lambda line: (read(line) in texts) is not negated

    def _set(self, name: str) -> frozenset[str]:
        self._need("{")
        texts = [self._text(name)]
        while self._take(","):
            texts.append(self._text(name))
        self._need("}")
        return frozenset(texts)

    def _text(self, name: str) -> str:
        token = self._next
        if not token.is_text:
            article = "an" if name == "edge" else "a"
            raise self._wrong(f"{article} {name}, in quotes unless it is one word")
        self._at += 1
        text = token.text[1:-1] if token.kind == "quoted" else token.text
        if name == "label":
            try:
                check_label(text, self._labels)
            except UsageError as error:
                raise UsageError(f"column {token.column}: {error}") from None
        return plain(text)

    def _sign(self, signs: Iterable[str]) -> Callable[[float, float], bool]:
        for sign in signs:
            if self._take(sign):
                return SIGNS[sign]
        raise self._wrong(f"one of {' '.join(signs)}{' in' if len([*signs]) == 2 else ''}")

    def _number(self) -> float:
        if self._next.kind != "number":
            raise self._wrong("a number")
        self._at += 1
        return float(self._tokens[self._at - 1].text)

    def end(self) -> None:
        """Raise UsageError unless everything has been read."""
        if self._next.kind != "end":
            raise self._wrong("and, or, or the end")

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, text: str) -> bool:
        """Pass over the next token if it is this word or sign."""
        taken = self._next.kind in {"word", "sign"} and self._next.text == text
        self._at += taken
        return taken

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise self._wrong(repr(text))

    def _wrong(self, expected: str) -> UsageError:
        token = self._next
        found = "the condition ends" if token.kind == "end" else f"there is {token.text!r}"
        return UsageError(f"column {token.column}: expected {expected}, but {found}")


def _tokens(text: str) -> list[_Token]:
    """Cut a text into tokens, the last of which is its end; UsageError for a character that begins none."""
    tokens, at = [], 0
    while rest := text[at:].split(maxsplit=1):
        at = text.index(rest[0], at)
        found = TOKEN.match(text, at)
        if found is None:
            hint = ": write ==" if text[at] == "=" else ""
            raise UsageError(f"column {at + 1}: {rest[0]!r} is neither a word nor a number nor a sign{hint}")
        tokens.append(_Token(str(found.lastgroup), found[0], at + 1))
        at = found.end()
    return [*tokens, _Token("end", "", len(text) + 1)]

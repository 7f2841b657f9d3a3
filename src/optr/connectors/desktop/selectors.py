"""Places by what is there, as people write them.

role=button[name="Save"]       a role of ARIA, and what its element has
role=textbox[name*="user" i]   *= holds, ^= begins with, $= ends with; i: capitals do not matter
role=checkbox[checked]         a state; [!checked]: without it
role=button[nth=2]             the second one, in the order of the tree
text=Login                     by its name (accessibility), else by what is read on the screen
text="Log in"                  exactly this
image=save.png                 by how it looks; image=save.png[confidence=0.9]
#username, css=form > button   CSS, in Chromium
role=dialog >> text=OK         the second inside the first; css=iframe >> #name: inside a frame
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from optr.connectors.desktop.roles import KNOWN, TOLD
from optr.connectors.desktop.seen import Element
from optr.errors import DesktopError

LONGEST = 1000
KINDS = ("role", "text", "image", "css")
_KIND = re.compile(r"\s*([A-Za-z_][\w-]*)\s*=(?!=)")
_ATTRIBUTE = re.compile(
    r"""\[\s*(?P<not>!)?(?P<name>[a-z_]+)\s*
    (?:(?P<how>[*^$]?=)\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>[^\]"'\s]+))
    \s*(?P<ignore>i)?\s*)?\]\s*""",
    re.VERBOSE,
)


class SelectorError(DesktopError):
    """A selector cannot be read: mend it as the message says."""


class _CandidatesError(DesktopError):
    """A selector that does not mean one element.

    Attributes:
        selector: As it came.
        candidates: What there is instead.
    """

    def __init__(self, selector: str, message: str, candidates: Sequence[Element]) -> None:
        self.selector = selector
        self.candidates = tuple(candidates)
        super().__init__(message)


class AmbiguousError(_CandidatesError):
    """A selector means several elements: say more, or which by `nth`."""


class AbsentError(_CandidatesError):
    """A selector means nothing that can be seen and reached now."""


class CoveredError(AbsentError):
    """What a selector means is there, and a window lies over it: bring its own to the front."""


@dataclass(frozen=True)
class Has:
    """Something that an element must have.

    Attributes:
        name: `name`, `value`, or a state.
        how: `=` is, `*=` holds, `^=` begins with, `$=` ends with; empty: has the state, `!`: has it not.
        text: Of the first four.
        ignore_case: Whether capitals do not matter.
    """

    name: str
    how: str = ""
    text: str = ""
    ignore_case: bool = False


@dataclass(frozen=True)
class Step:
    """One part of a selector.

    Attributes:
        kind: `role`, `text`, `image` or `css`.
        text: Role, text, path or CSS.
        has: What else it must have.
        nth: Which of several, from 1; 0: there has to be one.
        exact: Of `text`: whether it was quoted.
        confidence: Of `image`: the least correlation; 0: the usual.
    """

    kind: str
    text: str
    has: tuple[Has, ...] = ()
    nth: int = 0
    exact: bool = False
    confidence: float = 0.0


def parse_selector(text: str) -> tuple[Step, ...]:
    """Read a selector; each step lies inside the one before.

    Raises:
        SelectorError: If it cannot be read; the message says where and what is known.
    """
    if not isinstance(text, str) or not text.strip():
        raise SelectorError(f'an empty selector ({text!r}); write one such as role=button[name="Save"]')
    if len(text) > LONGEST:
        raise SelectorError(f"a selector of {len(text)} characters; at most {LONGEST} are read")
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text):
        raise SelectorError(f"a selector with control characters: {text!r}")
    steps = tuple(_step(part.strip(), text) for part in _parts(text))
    if len(steps) > 1 and any(s.kind == "css" for s in steps) and any(s.kind != "css" for s in steps):
        raise SelectorError(f"{text!r} mixes CSS with other kinds; CSS goes inside CSS only")
    return steps


def _parts(text: str) -> list[str]:
    """Between `>>` that stand outside quotes and brackets."""
    parts, start, quote, depth, at = [], 0, "", 0, 0
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            at += 1
        elif quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and (depth or _opens(text, start, at)):
            quote = sign
        elif sign in "[(":
            depth += 1
        elif sign in "])":
            depth -= 1
        elif depth <= 0 and text.startswith(">>", at):
            parts.append(text[start:at])
            at += 1
            start = at + 1
        at += 1
    if quote:
        raise SelectorError(f"{text!r} has a quote {quote} that is not closed")
    return [*parts, text[start:]]


def _opens(text: str, start: int, at: int) -> bool:
    """Whether a quote is the first sign after `kind=`: elsewhere it is a letter, as in `text=Don't save`."""
    kind = _KIND.match(text, start)
    return kind is not None and not text[kind.end() : at].strip()


def _step(part: str, whole: str) -> Step:
    if not part:
        raise SelectorError(f"{whole!r} has an empty part beside >>")
    found = _KIND.match(part)
    if not found:
        return Step("css", part)
    kind, rest = found.group(1), part[found.end() :].strip()
    if kind not in KINDS:
        raise SelectorError(
            f"no kind of selector named {kind!r} in {whole!r}; there are: {', '.join(KINDS)}, or plain CSS"
        )
    if not rest:
        raise SelectorError(f"{part!r} says nothing after the =")
    return {"role": _role, "text": _text, "image": _image, "css": _css}[kind](rest, whole)


def _css(rest: str, _: str) -> Step:
    return Step("css", rest)


def _role(rest: str, whole: str) -> Step:
    head, brackets = _split(rest)
    role = head.lower()
    if role not in KNOWN:
        raise SelectorError(f"no role named {head!r} in {whole!r}; there are: {', '.join(sorted(KNOWN))}")
    has, nth = [], 0
    for attribute in _attributes(brackets, whole):
        if attribute.name == "nth" and attribute.how == "=":
            nth = _nth(attribute.text, whole)
        elif attribute.how in ("", "!"):
            _demand(attribute.name, sorted(TOLD), whole)
            has.append(attribute)
        else:
            _demand(attribute.name, ["name", "value", "nth"], whole)
            has.append(attribute)
    return Step("role", role, tuple(has), nth)


def _text(rest: str, whole: str) -> Step:
    nth = 0
    tail = re.search(r"\[nth=[^\]]*\]$", rest)
    if tail:
        nth, rest = _nth(tail.group()[5:-1], whole), rest[: tail.start()].strip()
    if len(rest) >= 2 and rest[0] in "\"'" and rest[-1] == rest[0]:
        rest, exact = _plain(rest[1:-1]), True
    else:
        exact = False
    if not rest.strip():
        raise SelectorError(f"{whole!r} looks for an empty text")
    return Step("text", " ".join(rest.split()), nth=nth, exact=exact)


def _image(rest: str, whole: str) -> Step:
    head, brackets = _split(rest)
    nth, confidence = 0, 0.0
    for attribute in _attributes(brackets, whole):
        _demand(attribute.name, ["nth", "confidence"], whole)
        if attribute.name == "nth":
            nth = _nth(attribute.text, whole)
        else:
            confidence = _confidence(attribute.text, whole)
    path = head.strip("\"'").strip()
    if not path:
        raise SelectorError(f"{whole!r} names no picture")
    return Step("image", path, nth=nth, confidence=confidence)


def _split(rest: str) -> tuple[str, str]:
    head, bracket, tail = rest.partition("[")
    return head.strip(), bracket + tail


def _attributes(brackets: str, whole: str) -> list[Has]:
    found, at = [], 0
    while at < len(brackets):
        match = _ATTRIBUTE.match(brackets, at)
        if not match:
            raise SelectorError(
                f'{brackets[at:]!r} in {whole!r} is not like [name="Save"], [name*="sav" i] or [checked]'
            )
        text = next((t for t in match.group("double", "single", "bare") if t is not None), "")
        how = match["how"] or ("!" if match["not"] else "")
        if match["not"] and match["how"]:
            raise SelectorError(f"{match.group().strip()!r} in {whole!r}: a ! stands before states only")
        found.append(Has(match["name"], how, " ".join(_plain(text).split()), bool(match["ignore"])))
        at = match.end()
    return found


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _demand(name: str, known: Sequence[str], whole: str) -> None:
    if name not in known:
        raise SelectorError(
            f"nothing named {name!r} can be asked for there in {whole!r}; there are: {', '.join(known)}"
        )


def _nth(text: str, whole: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise SelectorError(f"nth={text} in {whole!r}: which one is a whole number from 1")
    return int(text)


def _confidence(text: str, whole: str) -> float:
    if not re.fullmatch(r"0?\.\d{1,6}|1(\.0*)?", text):
        raise SelectorError(f"confidence={text} in {whole!r}: it is a number from 0 to 1")
    return float(text)


def words(element: Element) -> str:
    """An element as an error tells it: its role, name and place."""
    place = f" at {element.rect.x},{element.rect.y} {element.rect.width}x{element.rect.height}" if element.rect else ""
    return f"{element.role} {element.name!r}{place}"

"""Finds the one element that a selector means, and where of it can be reached."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from optr.connectors.desktop.actions import Rect, Selector
from optr.connectors.desktop.free_part import largest_free
from optr.connectors.desktop.image_match import elements as image_elements
from optr.connectors.desktop.image_match import find_image, load_template
from optr.connectors.desktop.rects import overlap
from optr.connectors.desktop.seen import Element, Elements, Picture, Window
from optr.connectors.desktop.selectors import (
    AbsentError,
    AmbiguousError,
    CoveredError,
    Has,
    SelectorError,
    Step,
    parse_selector,
    words,
)
from optr.errors import DesktopError

if TYPE_CHECKING:
    from optr.connectors.desktop.devtools import DevTools
    from optr.connectors.desktop.ocr import Ocr
    from optr.connectors.desktop.tree import Tree

_LISTED = 12
_ENDS = " :.…*?!"


class Finder:
    """Asks whoever can answer a selector: accessibility, Chromium, or the pixels.

    Whatever is not given cannot be asked, and the error says so.
    """

    def __init__(
        self,
        windows: Callable[[], Sequence[Window]],
        tree: Tree | None = None,
        browsers: Callable[[], Sequence[DevTools]] = tuple,
        ocr: Ocr | None = None,
        grab: Callable[[Rect | None], Picture] | None = None,
        images: Path | None = None,
        may_scroll: Callable[[Window], bool] = lambda _: True,
    ) -> None:
        """Take what there is.

        Args:
            windows: Tells the windows of the display, with their layers.
            tree: For `role=` and `text=`.
            browsers: Tells the Chromiums of now, for CSS.
            ocr: For `text=` where no accessibility tells it.
            grab: Takes a picture of a part of the screen, for `text=` and `image=`.
            may_scroll: Whether the page in a window of a Chromium may be scrolled to what is looked for.
            images: Folder of the pictures of `image=`; others cannot be read. None: they are named by their paths.
        """
        self._windows = windows
        self._tree = tree
        self._browsers = browsers
        self._ocr = ocr
        self._grab = grab
        self._images = images
        self._may_scroll = may_scroll

    def find(self, selector: Selector | str) -> Element:
        """The one element that a selector means; its `rect` is what its own window lets see of it.

        Raises:
            SelectorError: If the selector cannot be read.
            AmbiguousError: If there are several; the message lists them.
            AbsentError: If there is none; the message lists what there is.
            CoveredError: If there is one, and a window lies over it.
        """
        return self._found(selector)[0]

    def resolve(self, selector: Selector | str) -> Rect:
        """The part of an element that nothing covers, the largest one; to be clicked in its middle.

        Raises:
            DesktopError: As `find`.
        """
        return self._found(selector)[1]

    def reach(self, selector: Selector | str) -> Element:
        """The element with what `resolve` tells as its `rect`. Raises as `find` does."""
        element, free = self._found(selector)
        return replace(element, rect=free)

    def invoke(self, selector: Selector | str, action: str = "") -> str:
        """Do what an element offers; answers what was done. Raises as `find` and `Tree.invoke` do."""
        return self._known_tree("invoked").invoke(self.find(selector), action)

    def set_value(self, selector: Selector | str, value: str) -> Element:
        """Put a value into an element; answers it as it is then. Raises as `find` and `Tree.set_value` do."""
        return self._known_tree("given a value").set_value(self.find(selector), value)

    def read(self, rect: Rect | None = None) -> tuple[Element, ...]:
        """Lines that are read off the screen, or a part of it."""
        return self._known_ocr().lines(self._picture(rect))

    def _found(self, selector: Selector | str) -> tuple[Element, Rect]:
        if isinstance(selector, str):
            selector = Selector(selector)
        steps = parse_selector(selector.text)
        windows = tuple(self._windows())
        window = _window(selector, windows)
        if steps[0].kind == "css":
            return self._by_css(selector.text, steps, window, windows)
        inside: Element | None = None
        for step in steps:
            inside, rect = self._by_step(selector.text, step, window, windows, inside)
        assert inside is not None
        return inside, rect

    def _by_css(
        self, text: str, steps: Sequence[Step], window: Window | None, windows: Sequence[Window]
    ) -> tuple[Element, Rect]:
        browsers = self._browsers()
        if not browsers:
            raise AbsentError(text, f"{text!r} is CSS, and no Chromium with DevTools is known here", ())
        answers, failures = [], []
        for browser in browsers:
            try:
                answers.append(browser.find([s.text for s in steps], window, self._may_scroll))
            except DesktopError as err:
                failures.append(err)
        if not answers:
            raise failures[0]
        found = [e for a in answers for e in a.elements]
        count = sum(a.count for a in answers)
        if count > 1:
            raise AmbiguousError(text, f"{text!r} means {count} elements: {_list(found)}", found)
        hints = [h for a in answers for h in a.hints] + [a.trouble for a in answers if a.count and a.trouble]
        if not count or any(a.trouble for a in answers if a.count):
            what = f"{words(found[0])}: " if found else "no such element is drawn" + (": " if hints else "")
            raise AbsentError(text, f"{text!r} cannot be reached: {what}{'; '.join(hints)}", found)
        return self._reachable(text, found, windows)

    def _by_step(
        self, text: str, step: Step, window: Window | None, windows: Sequence[Window], inside: Element | None
    ) -> tuple[Element, Rect]:
        seen = {"role": self._by_role, "text": self._by_text, "image": self._by_image}[step.kind](
            step, window, windows, inside
        )
        return self._choose(text, step, seen, windows)

    def _choose(self, text: str, step: Step, seen: Elements, windows: Sequence[Window]) -> tuple[Element, Rect]:
        reached = [e for e in seen.items if self._free(e, windows)]
        if step.nth and len(reached) >= step.nth:
            reached = [reached[step.nth - 1]]
        elif step.nth and reached:
            raise AbsentError(text, f"{text!r} asks for number {step.nth} of {len(reached)}: {_list(reached)}", reached)
        if len(reached) > 1:
            raise AmbiguousError(text, f"{text!r} means {len(reached)} elements: {_list(reached)}", reached)
        if not reached and not seen.items:
            others = self._others(step)
            cut = f" (not all was read: {seen.truncated})" if seen.truncated else ""
            listed = f"; there are: {_list(others)}" if others else ""
            raise AbsentError(text, f"nothing is {text!r}{cut}{listed}", others)
        return self._reachable(text, reached or seen.items, windows)

    def _reachable(self, text: str, found: Sequence[Element], windows: Sequence[Window]) -> tuple[Element, Rect]:
        """The only element, with its largest part that is free."""
        free = self._free(found[0], windows)
        if not free:
            over = _covering(found[0], windows)
            by = ", ".join(repr(w.title or w.wm_class[0]) for w in over) or "its window's edge"
            raise CoveredError(text, f"{words(found[0])} is covered by {by}: bring its window to the front", found)
        return found[0], free

    def _free(self, element: Element, windows: Sequence[Window]) -> Rect | None:
        if element.rect is None:
            return None
        own = next((w for w in windows if w.id == element.window), None)
        rect = overlap(element.rect, own.rect) if own else element.rect
        return largest_free(rect, [w.outer for w in _covering(element, windows)]) if rect else None

    def _by_role(
        self, step: Step, window: Window | None, windows: Sequence[Window], inside: Element | None
    ) -> Elements:
        tree = self._known_tree("found by role")
        names = [h for h in step.has if h.name == "name"]
        others = [h for h in step.has if h.name != "name"]
        found = tree.search(step.text, lambda _, name: all(_holds(name, h) for h in names), window, windows)
        items = tuple(e for e in found.items if all(_has(e, h) for h in others) and _inside(e, inside))
        return replace(found, items=items)

    def _by_text(
        self, step: Step, window: Window | None, windows: Sequence[Window], inside: Element | None
    ) -> Elements:
        seen = Elements(())
        if self._tree is not None:
            says = lambda _, name: _rank(name, step) < _NOT_THE_TEXT  # noqa: E731
            seen = self._tree.search("", says, window, windows)
            items = [e for e in seen.items if _inside(e, inside)]
            best = min((_rank(e.name, step) for e in items), default=0)
            seen = replace(seen, items=_without_nested([e for e in items if _rank(e.name, step) == best]))
        if seen.items or self._ocr is None or self._grab is None:
            return seen
        picture, owner = self._looked_at(window, inside)
        read = self._ocr.find(picture, step.text, step.exact)
        return replace(seen, items=tuple(replace(e, window=owner) for e in read))

    def _by_image(
        self, step: Step, window: Window | None, windows: Sequence[Window], inside: Element | None
    ) -> Elements:
        template = load_template(self._image_path(step.text))
        picture, owner = self._looked_at(window, inside)
        seen = image_elements(find_image(picture, template, step.confidence), step.text)
        return Elements(tuple(replace(e, window=owner) for e in seen))

    def _looked_at(self, window: Window | None, inside: Element | None) -> tuple[Picture, int]:
        """Where to look, and for whose things: what another window shows there is not in this one. 0: anybody's."""
        if inside is not None:
            return self._picture(inside.rect), inside.window
        return (self._picture(window.rect), window.id) if window else (self._picture(None), 0)

    def _image_path(self, name: str) -> Path:
        if self._images is None:
            return Path(name)
        path = (self._images / name).resolve()
        if not path.is_relative_to(self._images.resolve()) or not path.is_file():
            known = ", ".join(sorted(p.name for p in self._images.glob("*.png"))) or "none"
            raise SelectorError(f"no picture named {name!r} in {self._images}; there are: {known}")
        return path

    def _others(self, step: Step) -> tuple[Element, ...]:
        """What people may have meant instead."""
        if self._tree is None or step.kind not in ("role", "text"):
            return ()
        role = step.text if step.kind == "role" else ""
        return tuple(e for e in self._tree.search(role, lambda _, name: bool(name) or bool(role)).items)

    def _picture(self, rect: Rect | None) -> Picture:
        if self._grab is None:
            raise DesktopError("nothing can be found by its looks here: no screen was given")
        return self._grab(rect)

    def _known_tree(self, done: str) -> Tree:
        if self._tree is None:
            raise DesktopError(f"nothing can be {done} here: there is no accessibility")
        return self._tree

    def _known_ocr(self) -> Ocr:
        if self._ocr is None:
            raise DesktopError("nothing can be read off the screen here: there is no tesseract")
        return self._ocr


def _covering(element: Element, windows: Sequence[Window]) -> list[Window]:
    """Windows that lie over an element; none over what was seen on the screen itself."""
    own = next((w for w in windows if w.id == element.window), None)
    if own is None or element.rect is None:
        return []
    return [w for w in windows if w.visible and w.layer > own.layer and overlap(w.outer, element.rect)]


def _window(selector: Selector, windows: Sequence[Window]) -> Window | None:
    if selector.within is None:
        return None
    for window in windows:
        if window.id == selector.within:
            return window
    listed = ", ".join(f"{w.id} {w.title!r}" for w in windows) or "none"
    raise AbsentError(selector.text, f"no window {selector.within} to look in; there are: {listed}", ())


def _holds(text: str, has: Has) -> bool:
    wanted = has.text
    if has.ignore_case:
        text, wanted = text.casefold(), wanted.casefold()
    if has.how == "*=":
        return wanted in text
    if has.how == "^=":
        return text.startswith(wanted)
    if has.how == "$=":
        return text.endswith(wanted)
    return text == wanted


def _has(element: Element, has: Has) -> bool:
    if has.name == "value":
        return _holds(" ".join(element.value.split()), has)
    return (has.name in element.states) is (has.how != "!")


def _inside(element: Element, outer: Element | None) -> bool:
    if outer is None:
        return True
    if element.rect is None or outer.rect is None or element.reference == outer.reference:
        return False
    return outer.rect.holds(*element.rect.centre) and element.window in (0, outer.window)


_NOT_THE_TEXT = 4


def _rank(name: str, step: Step) -> int:
    """How well a name says a text: 0 the same, 1 but for capitals, 2 but for signs at the ends, 3 holds its words."""
    name, text = " ".join(name.split()), step.text
    if name == text:
        return 0
    if step.exact or not name:
        return _NOT_THE_TEXT
    name, text = name.casefold(), text.casefold()
    if name == text:
        return 1
    if name.strip(_ENDS) == text.strip(_ENDS):
        return 2
    return 3 if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", name) else _NOT_THE_TEXT


def _without_nested(found: Sequence[Element]) -> tuple[Element, ...]:
    """Of elements that lie in one another, the one that offers an action, else the inner one.

    A button often holds a label of the same name, and stands in a group that has it, too.
    """
    kept: list[Element] = []
    for element in found:
        rivals = [k for k in kept if _nested(k, element)]
        if any(r.actions and not element.actions for r in rivals):
            continue
        kept = [k for k in kept if k not in rivals] + [element]
    return tuple(kept)


def _nested(a: Element, b: Element) -> bool:
    if a.rect is None or b.rect is None or a.window != b.window:
        return False
    return overlap(a.rect, b.rect) in (a.rect, b.rect)


def _list(found: Sequence[Element]) -> str:
    shown = ", ".join(words(e) for e in found[:_LISTED])
    return f"{shown} and {len(found) - _LISTED} more" if len(found) > _LISTED else shown

"""What an action would do on a desktop, and what of that is forbidden: slow, and sharing no code with the guard.

The desk is a few plain facts. An action is played as what X would get: presses at pixels, keys with what is down beside
them, text into a window. Every event is looked at alone, and everything that is wrong with it is collected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

SCREEN = (1000, 800)
SHORTCUTS = {"ctrl", "alt", "super"}


@dataclass
class Box:
    """A window: number, class, title, place with its frame (x, y, w, h), height of the title bar, layer, focus."""

    id: int
    cls: str
    title: str
    place: tuple[int, int, int, int]
    bar: int
    layer: int
    focus: bool = False

    def inside(self) -> tuple[int, int, int, int]:
        x, y, w, h = self.place
        return x, y + self.bar, w, h - self.bar


@dataclass
class Facts:
    """What is allowed, and what is there."""

    boxes: list[Box]
    allowed: set[str]
    forbidden_titles: tuple[str, ...]
    region: tuple[str, str, str, str]  # left, top, right, bottom as shares of the screen, exact
    chords: list[set[str]]
    terminals: set[str]
    shell: str
    terminal_keys: list[set[str]]
    programs: dict[str, set[str]]
    secret: str
    longest: int
    pointer: tuple[int, int]
    elements: dict = field(default_factory=dict)  # selector text -> (name, place, window)


def within(place, pixel) -> bool:
    x, y, w, h = place
    return x <= pixel[0] < x + w and y <= pixel[1] < y + h


class Oracle:
    """Plays actions one after the other."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.keys: set[str] = set()
        self.buttons: set[str] = set()
        self.past = ""

    def wrong(self, action) -> set[str]:
        """Every code that speaks against an action, without doing it."""
        self.found: set[str] = set()
        self.now = set(self.keys)
        self.text = ""
        getattr(self, f"play_{action.kind}", self.play_other)(action)
        return self.found

    def done(self, action) -> None:
        """It was carried out."""
        if action.kind == "key_down":
            self.keys |= {self.plain(action.key)}
        if action.kind == "key_up":
            self.keys -= {self.plain(action.key)}
        if action.kind == "press":
            self.buttons |= {action.button}
        if action.kind == "release":
            self.buttons -= {action.button}
        self.past += self.text

    # -- events ---------------------------------------------------------------------------------------------------

    def top(self, pixel) -> Box | None:
        here = [b for b in self.facts.boxes if within(b.place, pixel)]
        return sorted(here, key=lambda b: b.layer)[-1] if here else None

    def place(self, target):
        """The pixel of a target; None if it is nowhere."""
        if target is None:
            return self.facts.pointer
        if hasattr(target, "text"):
            if target.text not in self.facts.elements:
                return None
            x, y, w, h = self.facts.elements[target.text][1]
            pixel = (x + w // 2, y + h // 2)
            box = self.top(pixel)
            if box is None or box.id != self.facts.elements[target.text][2]:
                return None  # covered
        else:
            x, y, w, h = 0, 0, *SCREEN
            if target.frame != "screen":
                boxes = [b for b in self.facts.boxes if target.frame == f"window:{b.id}"]
                if not boxes:
                    return None
                x, y, w, h = boxes[0].inside()
            pixel = (
                min(x + w - 1, x + Fraction(target.x) * w // 1),
                min(y + h - 1, y + Fraction(target.y) * h // 1),
            )
        return pixel if within((0, 0, *SCREEN), pixel) else None

    def point(self, target) -> Box | None:
        """The pointer acts on a place."""
        pixel = self.place(target)
        if pixel is None:
            self.found.add("NO_SUCH_PLACE")
            return None
        box = self.top(pixel)
        self.reach(box)
        if box is not None and not within(box.inside(), pixel):
            self.found.add("WINDOW_FORBIDDEN")
        if pixel[0] in (0, SCREEN[0] - 1) and pixel[1] in (0, SCREEN[1] - 1):
            self.found.add("REGION_FORBIDDEN")
        left, top, right, bottom = (Fraction(s) for s in self.facts.region)
        if left * SCREEN[0] - 1 < pixel[0] < right * SCREEN[0] and top * SCREEN[1] - 1 < pixel[1] < bottom * SCREEN[1]:
            self.found.add("REGION_FORBIDDEN")
        return box

    def reach(self, box: Box | None) -> None:
        if (
            box is None
            or box.cls not in self.facts.allowed
            or any(t in box.title.lower() for t in self.facts.forbidden_titles)
        ):
            self.found.add("WINDOW_FORBIDDEN")

    def keyboard(self) -> Box | None:
        boxes = [b for b in self.facts.boxes if b.focus]
        if not boxes:
            self.found.add("NO_FOCUS")
            return None
        self.reach(boxes[0])
        return boxes[0]

    def plain(self, key: str) -> str:
        same = {"return": "enter", "esc": "escape", "ctrlleft": "ctrl", "control": "ctrl", "del": "delete"}
        same |= {"\n": "enter", "\t": "tab", " ": "space", "semicolon": ";", "win": "super"}
        return same.get(key.lower(), key.lower())

    def strike(self, key: str, box: Box | None, as_text: bool = False) -> None:
        """A key goes down, with everything that is down already."""
        if key == "nonsense":
            self.found.add("KEY_FORBIDDEN")
            return
        down = self.now | {self.plain(key)} | ({"shift"} if len(key) == 1 and key.isupper() else set())
        if any(chord <= down for chord in self.facts.chords):
            self.found.add("KEY_FORBIDDEN")
        if box is not None and box.cls in self.facts.terminals and not as_text and down not in self.facts.terminal_keys:
            self.found.add("TERMINAL_FORBIDDEN")
        if as_text:
            self.say(key, box)
        elif not self.now & SHORTCUTS:
            letter = {"enter": "\n", "tab": "\t", "space": " "}.get(self.plain(key), self.plain(key))
            shifted = "shift" in self.now or (len(key) == 1 and key.isupper())
            self.text += "" if len(letter) > 1 else letter.upper() if shifted else letter

    def say(self, text: str, box: Box | None) -> None:
        self.text += text
        if box is not None and box.cls in self.facts.terminals and any(c in self.facts.shell + "\n\t" for c in text):
            self.found.add("TERMINAL_FORBIDDEN")

    def told(self, *texts: str) -> None:
        for text in (*texts, self.past + self.text if self.text else ""):
            if self.facts.secret in text:
                self.found.add("SECRET_FORBIDDEN")

    def click(self, button: str, boxes: list, modifiers=()) -> None:
        focused = [b for b in self.facts.boxes if b.focus]
        if modifiers and focused:
            self.reach(focused[0])
            if focused[0].cls in self.facts.terminals:
                self.found.add("TERMINAL_FORBIDDEN")
        down = self.now | set(modifiers) | {f"click-{button}"}
        if any(chord <= down for chord in self.facts.chords):
            self.found.add("KEY_FORBIDDEN")
        if any(b is not None and b.cls in self.facts.terminals for b in boxes) and down != {"click-left"}:
            self.found.add("TERMINAL_FORBIDDEN")

    # -- actions --------------------------------------------------------------------------------------------------

    def play_other(self, action) -> None:
        self.told(*[v for v in vars(action).values() if isinstance(v, str)])

    def on_terminal(self, *boxes) -> None:
        """With a button down nothing may be done there: it may be let go there, too."""
        if self.buttons and any(b is not None and b.cls in self.facts.terminals for b in boxes):
            self.found.add("TERMINAL_FORBIDDEN")

    def play_move(self, action) -> None:
        self.on_terminal(self.point(action.to))
        self.drawn_to(action.to)
        self.told(getattr(action.to, "text", ""))

    def play_click(self, action) -> None:
        box = self.point(action.at)
        self.on_terminal(box)
        self.click(action.button, [box], action.modifiers)

    def play_press(self, action) -> None:
        box = self.point(action.at)
        self.click(action.button, [box])
        if box is not None and box.cls in self.facts.terminals:
            self.found.add("TERMINAL_FORBIDDEN")

    def drawn_to(self, target) -> None:
        """A button that is down draws as a drag does."""
        pixel = self.place(target)
        if self.buttons and pixel is not None:
            self.draw([self.facts.pointer, pixel])

    def play_release(self, action) -> None:
        box = self.point(action.at)
        self.drawn_to(action.at)
        if box is not None and box.cls in self.facts.terminals:
            self.found.add("TERMINAL_FORBIDDEN")

    def play_drag(self, action) -> None:
        boxes = [self.point(t) for t in action.path]
        self.on_terminal(*boxes)
        self.click(action.button, boxes, action.modifiers)
        pixels = [self.place(t) for t in action.path]
        passed = self.draw(pixels) if None not in pixels else []
        kinds = {b is not None and b.cls in self.facts.terminals for b in [*boxes, *passed]}
        if len(kinds) == 2:
            self.found.add("TERMINAL_FORBIDDEN")

    def draw(self, pixels: list) -> list:
        """Something is drawn along straight lines; answers the windows on the way."""
        passed = []
        for (ax, ay), (bx, by) in pairwise(pixels):
            length = max(abs(bx - ax), abs(by - ay))
            for n in range(1, length):
                pixel = (round(ax + Fraction(bx - ax) * n / length), round(ay + Fraction(by - ay) * n / length))
                if (box := self.top(pixel)) is not None:
                    self.reach(box)
                    passed.append(box)
                left, top, right, bottom = (Fraction(s) for s in self.facts.region)
                across = left * SCREEN[0] - 1 < pixel[0] < right * SCREEN[0]
                if across and top * SCREEN[1] - 1 < pixel[1] < bottom * SCREEN[1]:
                    self.found.add("REGION_FORBIDDEN")
        return passed

    def play_scroll(self, action) -> None:
        self.on_terminal(self.point(action.at))
        if self.now and any(chord <= self.now | {"scroll"} for chord in self.facts.chords):
            self.found.add("KEY_FORBIDDEN")

    def play_type(self, action) -> None:
        if self.now & (SHORTCUTS | {"altgr", "shift"}):
            self.found.add("KEY_FORBIDDEN")
        if action.into is None:
            box = self.keyboard()
        else:
            box = self.point(action.into)
            self.on_terminal(box)
            self.click("left", [])
            self.found |= set() if box else {"NO_FOCUS"}
        if len(action.text) > self.facts.longest:
            self.found.add("TEXT_FORBIDDEN")
        for character in action.text:
            self.strike(character, box, as_text=True)
        self.told(action.text, getattr(action.into, "text", ""))

    def play_key(self, action) -> None:
        box = self.keyboard()
        self.strike(action.key, box)
        self.text *= action.count
        self.told(action.key)

    def play_key_down(self, action) -> None:
        self.strike(action.key, self.keyboard())
        self.told(action.key)

    def play_key_up(self, action) -> None:
        if action.key == "nonsense":
            self.found.add("KEY_FORBIDDEN")

    def play_hotkey(self, action) -> None:
        box = self.keyboard()
        for key in action.keys:
            self.strike(key, box)
            self.now |= {self.plain(key)} if key != "nonsense" else set()
        self.told(*action.keys)

    def play_invoke(self, action) -> None:
        box = self.element(action.element)
        if box is not None and box.cls in self.facts.terminals:
            self.found.add("TERMINAL_FORBIDDEN")

    def play_set_value(self, action) -> None:
        box = self.element(action.element)
        self.say(action.value, box)
        if len(action.value) > self.facts.longest:
            self.found.add("TEXT_FORBIDDEN")
        self.told(action.value)

    def element(self, selector) -> Box | None:
        if selector.text not in self.facts.elements:
            self.found.add("NO_SUCH_PLACE")
            return None
        _, (x, y, w, h), number = self.facts.elements[selector.text]
        pixel = (x + w // 2, y + h // 2)
        left, top, right, bottom = (Fraction(s) for s in self.facts.region)
        if left * SCREEN[0] - 1 < pixel[0] < right * SCREEN[0] and top * SCREEN[1] - 1 < pixel[1] < bottom * SCREEN[1]:
            self.found.add("REGION_FORBIDDEN")
        box = next(b for b in self.facts.boxes if b.id == number)
        self.reach(box)
        return box

    def play_focus(self, action) -> None:
        wanted = action.window.lower()
        boxes = [b for b in self.facts.boxes if wanted in b.title.lower() or wanted in b.cls.lower()]
        boxes = [b for b in self.facts.boxes if action.window in (str(b.id), b.title)] or boxes
        if len(boxes) != 1:
            self.found.add("NO_SUCH_PLACE")
            boxes = []
        for box in boxes:
            self.reach(box)
        self.told(action.window)

    def play_launch(self, action) -> None:
        allowed = self.facts.programs.get(action.program)
        if allowed is None or not set(action.arguments) <= allowed:
            self.found.add("PROGRAM_FORBIDDEN")
        self.told(action.program, *action.arguments)

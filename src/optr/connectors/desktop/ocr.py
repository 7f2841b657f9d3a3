"""Words that are read off the screen, by tesseract."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.seen import Element, Picture
from optr.errors import DesktopError

_SCALE = 2
"""Letters on screens are about 10 px high; tesseract was taught on 20 and more. Bicubic reads best of four ways."""
_SPARSE = "11"  # page segmentation: text anywhere, in no order
_KEPT = 8
_EDGES = "|[](){}<>.,:;!?*=_-—'\"`“”‘’©®°•\\/"  # what borders and icons are taken for


class Word(NamedTuple):
    """A word, where it is on the screen, which line it belongs to, and how sure tesseract is (0 to 1)."""

    text: str
    rect: Rect
    line: tuple[int, int, int]
    confidence: float


class Ocr:
    """Reads pictures; the last few are kept, so that a screen that did not change costs nothing."""

    def __init__(self, language: str = "eng", least: float = 0.3, timeout_s: float = 15.0) -> None:
        """Find tesseract.

        Args:
            language: As tesseract names them, `eng+deu` for two.
            least: Words of which it is less sure are left out.
            timeout_s: Longest time for one picture.

        Raises:
            DesktopError: If it is not installed.
        """
        self._program = shutil.which("tesseract") or ""
        if not self._program:
            raise DesktopError("no text can be read off the screen: tesseract is not installed (tesseract-ocr)")
        self._language = language
        self._least = least
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._read: OrderedDict[tuple[int, tuple[int, ...], Rect], tuple[Word, ...]] = OrderedDict()

    def words(self, picture: Picture) -> tuple[Word, ...]:
        """Every word, in the order of lines."""
        key = (zlib.crc32(picture.pixels.tobytes()), picture.pixels.shape, picture.rect)
        with self._lock:
            if key not in self._read:
                self._read[key] = self._words(picture)
                if len(self._read) > _KEPT:
                    self._read.popitem(last=False)
            self._read.move_to_end(key)
            return self._read[key]

    def lines(self, picture: Picture) -> tuple[Element, ...]:
        """Words that stand beside one another, as one element each."""
        return tuple(_element(words) for words in _lines(self.words(picture)))

    def find(self, picture: Picture, text: str, exact: bool = False) -> tuple[Element, ...]:
        """Words in one line that say a text: as it is written before other capitals, whole lines before parts of lines.

        Args:
            picture: Where to look.
            text: Words with single spaces.
            exact: Whether capitals matter.
        """
        ways = (_same,) if exact else (_same, _same_letters)
        lines = _lines(self.words(picture))
        for same in ways:
            spans = [span for line in lines for span in _spans(line, text, same)]
            whole = [s for s in spans if any(len(s) == len(line) and s[0] is line[0] for line in lines)]
            if spans:
                return tuple(_element(s) for s in whole or spans)
        return ()

    def _words(self, picture: Picture) -> tuple[Word, ...]:
        command = [self._program, "stdin", "stdout", "--psm", _SPARSE, "--dpi", "192", "-l", self._language, "tsv"]
        environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
        try:
            done = subprocess.run(
                command,
                input=_enlarged(picture),
                capture_output=True,
                timeout=self._timeout_s,
                check=True,
                env=environment,
            )
        except subprocess.TimeoutExpired as err:
            raise DesktopError(f"tesseract did not read the screen within {self._timeout_s:g} s") from err
        except (OSError, subprocess.CalledProcessError) as err:
            said = getattr(err, "stderr", b"") or b""
            raise DesktopError(f"tesseract failed: {said.decode(errors='replace').strip() or err}") from err
        rows = (line.split("\t") for line in done.stdout.decode("utf-8", "replace").splitlines()[1:])
        words = [_word(row, picture.rect) for row in rows if len(row) == 12 and row[0] == "5" and row[11].strip()]
        return tuple(w for w in words if w.confidence >= self._least)


def _enlarged(picture: Picture) -> bytes:
    """A grey picture of twice the size, as PGM."""
    from PIL import Image

    grey = Image.fromarray(picture.pixels).convert("L")
    large = grey.resize((grey.width * _SCALE, grey.height * _SCALE), Image.Resampling.BICUBIC)
    return b"P5 %d %d 255\n" % large.size + large.tobytes()


def _word(row: Sequence[str], origin: Rect) -> Word:
    left, top, width, height = (int(n) // _SCALE for n in row[6:10])
    rect = Rect(origin.x + left, origin.y + top, max(width, 1), max(height, 1))
    return Word(row[11].strip(), rect, (int(row[2]), int(row[3]), int(row[4])), float(row[10]) / 100)


def _lines(words: Sequence[Word]) -> list[list[Word]]:
    return [list(line) for _, line in groupby(words, key=lambda w: w.line)]


def _element(words: Sequence[Word]) -> Element:
    left, top = min(w.rect.x for w in words), min(w.rect.y for w in words)
    right = max(w.rect.x + w.rect.width for w in words)
    bottom = max(w.rect.y + w.rect.height for w in words)
    return Element(
        role="text",
        name=" ".join(w.text for w in words),
        rect=Rect(left, top, right - left, bottom - top),
        states=("visible",),
        source="ocr",
        confidence=min(w.confidence for w in words),
    )


def _spans(line: list[Word], text: str, same: Callable[[str, str], bool]) -> list[list[Word]]:
    count = len(text.split())
    spans = [line[at : at + count] for at in range(len(line) - count + 1)]
    return [span for span in spans if same(" ".join(w.text for w in span), text)]


def _same(read: str, wanted: str) -> bool:
    return read == wanted or read.strip(_EDGES) == wanted.strip(_EDGES) != ""


def _same_letters(read: str, wanted: str) -> bool:
    return _same(read.casefold(), wanted.casefold())

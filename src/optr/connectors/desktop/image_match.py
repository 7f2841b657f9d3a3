"""Where a small picture is on the screen: normalised correlation of grey levels.

For a template t and each place of the screen f (J. P. Lewis, "Fast Normalized Cross-Correlation", 1995, equation 2):

    c = sum((f - mean f) (t - mean t)) / sqrt(sum((f - mean f)^2) sum((t - mean t)^2))

The upper sum is one product of Fourier transforms, sums over f come from running totals.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.seen import Element, Picture
from optr.errors import DesktopError

USUAL_CONFIDENCE = 0.92
_FLATTEST = 4.0  # standard deviation of grey levels; flatter templates match everywhere
_FEWEST = 64  # pixels of a template
_MOST = 20
_COLOUR_OFF = 30.0  # mean difference of a colour channel: the grey of two colours may be the same

_Grey = npt.NDArray[np.float64]


class Match(NamedTuple):
    """A place, and how well it correlates there (1: the same up to contrast and brightness)."""

    rect: Rect
    confidence: float


def load_template(path: Path) -> npt.NDArray[np.uint8]:
    """Pixels of a file, RGB, shape (height, width, 3).

    Raises:
        DesktopError: If it cannot be read, is too small, or too flat to be told from others.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as err:
        raise DesktopError(f"the picture {str(path)!r} cannot be read: {err}") from err
    return _checked(pixels, str(path))


def find_image(picture: Picture, template: npt.NDArray[np.uint8], least: float = 0.0) -> tuple[Match, ...]:
    """Places where a template is, the best first; of places that overlap the better one.

    Args:
        picture: Where to look.
        template: RGB, shape (height, width, 3).
        least: Correlation from 0 to 1; 0: the usual.

    Raises:
        DesktopError: If the template is too small, too flat, or larger than the picture.
    """
    template = _checked(template, "the template")
    height, width = template.shape[:2]
    if height > picture.pixels.shape[0] or width > picture.pixels.shape[1]:
        seen = picture.pixels.shape
        raise DesktopError(
            f"a template of {width}x{height} px is larger than what is looked at, {seen[1]}x{seen[0]} px"
        )
    scores = _correlation(_grey(picture.pixels), _grey(template))
    found: list[Match] = []
    while len(found) < _MOST:
        at = int(np.argmax(scores))
        y, x = divmod(at, scores.shape[1])
        score = float(scores[y, x])
        if score < (least or USUAL_CONFIDENCE):
            break
        part = picture.pixels[y : y + height, x : x + width]
        if _same_colours(part, template):
            place = Rect(picture.rect.x + x, picture.rect.y + y, width, height)
            found.append(Match(place, min(score, 1.0)))
            scores[max(0, y - height // 2) : y + height // 2 + 1, max(0, x - width // 2) : x + width // 2 + 1] = -1.0
        else:
            scores[y, x] = -1.0
            scores[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = -1.0
    return tuple(found)


def elements(matches: tuple[Match, ...], name: str) -> tuple[Element, ...]:
    """Matches as elements of the screen."""
    return tuple(
        Element("img", name, rect=m.rect, states=("visible",), source="image", confidence=m.confidence) for m in matches
    )


def _checked(template: npt.NDArray[np.uint8], what: str) -> npt.NDArray[np.uint8]:
    height, width = template.shape[:2]
    if height * width < _FEWEST:
        raise DesktopError(f"{what} has {width}x{height} px: fewer than {_FEWEST} pixels are found everywhere")
    if float(_grey(template).std()) < _FLATTEST:
        raise DesktopError(f"{what} is flat ({width}x{height} px of nearly one grey): it would be found everywhere")
    return template


def _grey(pixels: npt.NDArray[np.uint8]) -> _Grey:
    """Luma (ITU-R BT.601)."""
    return np.asarray(pixels.astype(np.float64) @ (0.299, 0.587, 0.114))


def _correlation(image: _Grey, template: _Grey) -> _Grey:
    """Of every place where the template fits in whole, shape (H - h + 1, W - w + 1)."""
    height, width = template.shape
    shape = (_fast(image.shape[0]), _fast(image.shape[1]))
    centred = template - template.mean()
    image = image - image.mean()  # smaller numbers, smaller rounding
    product = np.fft.rfft2(image, shape) * np.conj(np.fft.rfft2(centred, shape))
    rows, columns = image.shape[0] - height + 1, image.shape[1] - width + 1
    above = np.fft.irfft2(product, shape)[:rows, :columns]
    spread = _window_sums(image**2, height, width) - _window_sums(image, height, width) ** 2 / template.size
    below = np.sqrt(np.maximum(spread, 0.0) * float((centred**2).sum()))
    flat = spread < template.size  # less than one grey level of deviation
    return np.asarray(np.where(flat, -1.0, above / np.where(flat, 1.0, below)))


def _window_sums(image: _Grey, height: int, width: int) -> _Grey:
    total = np.zeros((image.shape[0] + 1, image.shape[1] + 1))
    total[1:, 1:] = image.cumsum(0).cumsum(1)
    return np.asarray(
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )


def _fast(size: int) -> int:
    """The least number from `size` on that has the factors 2, 3 and 5 only: others are transformed slowly."""
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1


def _same_colours(part: npt.NDArray[np.uint8], template: npt.NDArray[np.uint8]) -> bool:
    off = part.astype(np.float64).mean((0, 1)) - template.astype(np.float64).mean((0, 1))
    return bool(np.abs(off).max() <= _COLOUR_OFF)

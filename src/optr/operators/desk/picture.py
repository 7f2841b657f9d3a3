"""Pictures of a screen in another size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def scaled(pixels: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """A picture made smaller, each pixel the mean of those that it stands for; where it is to be larger, repeated.

    Args:
        pixels: uint8, shape (height, width, channels).
        width: Wanted [px].
        height: Wanted [px].
    """
    rows, columns, _ = pixels.shape
    if (rows, columns) == (height, width):
        return pixels
    out = _reduced(pixels, height, 0)
    return np.rint(_reduced(out, width, 1)).astype(np.uint8)


def _reduced(values: npt.NDArray[np.generic], count: int, axis: int) -> npt.NDArray[np.float32]:
    there = values.shape[axis]
    if count >= there:
        index = np.arange(count) * there // count
        return np.asarray(np.take(values, index, axis=axis), dtype=np.float32)
    edges = np.arange(count + 1) * there // count
    sums = np.add.reduceat(values, edges[:-1], axis=axis, dtype=np.float32)
    sizes = np.diff(edges).astype(np.float32)
    return np.asarray(sums / sizes.reshape([-1 if k == axis else 1 for k in range(values.ndim)]), dtype=np.float32)

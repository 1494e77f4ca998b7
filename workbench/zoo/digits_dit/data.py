"""The handwritten digits that come with scikit-learn, scaled and split once for training and judging."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HELD_OUT = 360
"""Digits that neither the model nor its judge is trained on."""


@dataclass(frozen=True)
class Digits:
    """Real digits and what they show."""

    images: NDArray[np.float32]
    """Shape [n, 1, 8, 8], paper -1 and full ink +1."""
    labels: NDArray[np.int64]
    """Shape [n], 0 to 9."""


@cache
def split() -> tuple[Digits, Digits]:
    """Read the digits and set some aside, always the same ones, every class in its share.

    Returns
    -------
    train, held_out : Digits
        1437 and 360 digits.

    References
    ----------
    Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
    https://doi.org/10.24432/C50P49 (its test part is what scikit-learn ships; ink counts 0 to 16 a pixel).
    """
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 8 - 1).astype(np.float32).reshape(-1, 1, 8, 8)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels.astype(np.int64), test_size=HELD_OUT, stratify=labels, random_state=0
    )
    return Digits(train_images, train_labels), Digits(test_images, test_labels)

"""Judge digits: a classifier that tells whether they are recognised, and their distance from real ones.

The classifier is fitted on first use, in a few seconds, and is the same every time.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from workbench.zoo.digits_dit.data import Digits, split


def recognise(images: ArrayLike) -> NDArray[np.int64]:
    """Read the digits.

    Parameters
    ----------
    images : array-like of float, shape [n, 1, 8, 8]
        In [-1, 1], paper -1 and ink +1.

    Returns
    -------
    ndarray of int64, shape [n]
        The digit that each image shows, 0 to 9.
    """
    read: NDArray[np.int64] = _classifier().predict(_rows(images))
    return read


def accuracy(images: ArrayLike, labels: ArrayLike) -> float:
    """Share of the images that are read as what they should show.

    Parameters
    ----------
    images : array-like of float, shape [n, 1, 8, 8]
        In [-1, 1], paper -1 and ink +1.
    labels : array-like of int, shape [n]
        What they should show.

    Returns
    -------
    float
        From 0 to 1.
    """
    return float(np.mean(recognise(images) == np.asarray(labels)))


def held_out_accuracy() -> float:
    """Accuracy of the judge itself, on real digits it was not trained on.

    Returns
    -------
    float
        From 0 to 1.
    """
    _, held_out = split()
    return accuracy(held_out.images, held_out.labels)


def features(images: ArrayLike) -> NDArray[np.float64]:
    """What the classifier sees in the images: the activations of its last hidden layer.

    Parameters
    ----------
    images : array-like of float, shape [n, 1, 8, 8]
        In [-1, 1], paper -1 and ink +1.

    Returns
    -------
    ndarray of float64, shape [n, 64]
    """
    classifier = _classifier()
    seen: NDArray[np.float64] = _rows(images).astype(np.float64)
    for weight, bias in zip(classifier.coefs_[:-1], classifier.intercepts_[:-1], strict=True):
        seen = np.maximum(seen @ weight + bias, 0)
    return seen


def frechet_distance(images: ArrayLike, reference: ArrayLike | None = None) -> float:
    """Fréchet distance between two sets of images, as Gaussians in the space of `features`.

    The distance of finite samples is biased upwards: compare sets of equal size only.

    Parameters
    ----------
    images : array-like of float, shape [n, 1, 8, 8]
        In [-1, 1], paper -1 and ink +1.
    reference : array-like of float, shape [m, 1, 8, 8], optional
        The training digits unless given.

    Returns
    -------
    float
        ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½), 0 for equal sets.

    References
    ----------
    Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, 2017,
    arXiv:1706.08500, eq. 6.
    """
    ours, theirs = features(images), features(split()[0].images if reference is None else reference)
    shift = ours.mean(axis=0) - theirs.mean(axis=0)
    ours_cov, theirs_cov = np.cov(ours, rowvar=False), np.cov(theirs, rowvar=False)
    root = _root(ours_cov)
    # Σ₁Σ₂ has the eigenvalues of the symmetric √Σ₁·Σ₂·√Σ₁, whose roots need no complex arithmetic.
    overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ theirs_cov @ root), 0)).sum()
    return float(shift @ shift + np.trace(ours_cov) + np.trace(theirs_cov) - 2 * overlap)


def nearest(images: ArrayLike) -> NDArray[np.float32]:
    """Distance of each image to the training digit most like it; 0 for a copy.

    Parameters
    ----------
    images : array-like of float, shape [n, 1, 8, 8]
        In [-1, 1], paper -1 and ink +1.

    Returns
    -------
    ndarray of float32, shape [n]
        Euclidean, over the 64 pixels.
    """
    known = _rows(split()[0].images)
    distances = [np.linalg.norm(known - row, axis=1).min() for row in _rows(images)]
    return np.array(distances, dtype=np.float32)


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root


def _rows(images: ArrayLike) -> NDArray[np.float32]:
    pixels = np.asarray(images, dtype=np.float32)
    return pixels.reshape(len(pixels), -1)


@cache
def _classifier() -> MLPClassifier:
    digits = _nudged(split()[0])
    classifier = MLPClassifier((128, 64), alpha=1e-2, random_state=0)
    with threadpool_limits(1):  # the matrices are too small to share: more threads only wait for each other
        return classifier.fit(_rows(digits.images), digits.labels)


def _nudged(digits: Digits) -> Digits:
    """The digits, and each of them moved by a pixel in four directions: worth two points of accuracy."""
    paper = np.pad(digits.images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
    moved = [paper[:, :, y : y + 8, x : x + 8] for y, x in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))]
    return Digits(np.concatenate(moved), np.tile(digits.labels, len(moved)))

"""Boosting: the leaves that rows reach in all trees of a histogram gradient boosting at once, and not one tree after the other.

scikit-learn calls its compiled code once a tree: for one row that takes far longer than the trees themselves, and between two calls every other
thread may go first. Here each split has a mask of the leaves that are still possible once a row went right at it. Of each feature the masks of
all splits, in the order of their thresholds, are put together beforehand, so that a value leads to those of all splits that it goes right at by
one search. What remains is the leftmost leaf: C. Lucchese et al., "QuickScorer: a fast algorithm to rank documents with additive ensembles of
regression trees", SIGIR 2015. The leaves' values are added in scikit-learn's order, and so to the same last bit.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting

LEAVES = 64  # most of a tree: one bit each
LARGEST = 64 << 20  # bytes of all masks
ROWS = 512  # that are looked up at once, so that what they need stays near the processor
_ALL = np.uint64(2**64 - 1)
_Splits = tuple[int, NDArray[np.float64], NDArray[np.uint64]]  # the place of a feature, its thresholds and masks


def quickened(estimator: Any) -> Any:
    """Give a copy of a fitted boosting that predicts rows of a float64 matrix quicker, to the same last bit.

    It relies on what scikit-learn keeps for itself: hold its answers against the estimator's own before using it.

    Raises:
        AttributeError: if this is no boosting, or scikit-learn keeps its trees otherwise than it did.
        ValueError: if it adds its trees up in a way of its own, encodes categories before they see them, or has too many leaves or splits.
    """
    if type(estimator)._raw_predict is not BaseHistGradientBoosting._raw_predict:
        raise ValueError(f"{type(estimator).__name__} adds its trees up in a way of its own.")
    if estimator._preprocessor is not None:
        raise ValueError("The boosting encodes categories by itself; only one of numbers alone can be quickened.")
    trees = [tree.nodes for iteration in estimator._predictors for tree in iteration]
    leaves = [int(nodes["is_leaf"].sum()) for nodes in trees]
    if max(leaves) > LEAVES or sum(leaves) * len(trees) * 8 > LARGEST:
        raise ValueError(f"A tree has more than {LEAVES} leaves, or the masks of all splits would take more than {LARGEST:,} bytes.")
    quick = copy.copy(estimator)
    quick._raw_predict = _raw(estimator, trees)
    return quick


def _raw(estimator: Any, trees: Sequence[NDArray[Any]]) -> Callable[..., NDArray[np.float64]]:
    """Give what stands in for the estimator's `_raw_predict`: the baseline and the leaves' values, added up tree by tree."""
    splits, values = list(_splits(trees)), _values(trees)
    first, baseline = np.arange(len(trees)) * LEAVES, estimator._baseline_prediction.reshape(1, -1)

    def added(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        reached = values.take(first + _leaves(splits, rows, len(trees))).reshape(len(rows), -1, baseline.size)
        reached[:, 0] += baseline
        return np.add.accumulate(reached, axis=1)[:, -1]

    def raw(rows: Any, n_threads: int | None = None) -> NDArray[np.float64]:
        matrix = np.asarray(rows, dtype=np.float64)
        parts = [added(matrix[start : start + ROWS]) for start in range(0, len(matrix), ROWS)]
        return np.asfortranarray(np.concatenate(parts))  # as scikit-learn has it: what is made of it is added up in that order

    return raw


def _leaves(splits: Sequence[_Splits], rows: NDArray[np.float64], trees: int) -> NDArray[np.uint8]:
    """Give the number of the leaf that each row reaches in each tree."""
    possible = np.full((len(rows), trees), _ALL)
    for feature, thresholds, masks in splits:
        column = rows[:, feature]
        passed = np.where(np.isnan(column), len(thresholds) + 1, thresholds.searchsorted(column))
        possible &= masks[passed]
    leftmost: NDArray[np.uint8] = np.bitwise_count((possible - np.uint64(1)) & ~possible)
    return leftmost


def _splits(trees: Sequence[NDArray[Any]]) -> Iterator[_Splits]:
    """Put the splits by each feature together; `masks[k]` is for values above `k` of the thresholds, the last one for missing values.

    A tree's nodes stand in the order in which they are come by from left to right, each before its branches.
    """
    nodes, sizes = np.concatenate(trees), [len(tree) for tree in trees]
    tree, start = np.repeat(np.arange(len(trees)), sizes), np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
    split = np.flatnonzero(nodes["is_leaf"] == 0)
    left, right = (start[split] + nodes[side][split] for side in ("left", "right"))
    if len(split) and ((left != split + 1).any() or (right <= left).any()):
        raise ValueError("The nodes of a tree stand in another order than from left to right.")
    before = np.cumsum(np.concatenate([[0], nodes["is_leaf"]]))
    behind = (before[right] - before[left]).astype(np.uint64)
    mask = ~(((np.uint64(1) << behind) - np.uint64(1)) << (before[left] - before[start[split]]).astype(np.uint64))
    for feature in np.unique(nodes["feature_idx"][split]):
        own = np.flatnonzero(nodes["feature_idx"][split] == feature)
        own = own[np.argsort(nodes["num_threshold"][split[own]], kind="stable")]
        yield int(feature), *_masks(nodes[split[own]], tree[split[own]], mask[own], len(trees))


def _masks(
    nodes: NDArray[Any], tree: NDArray[np.int64], mask: NDArray[np.uint64], trees: int
) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """Put the masks of one feature's splits, in the order of their thresholds, together: row k is of the first k splits, and one of missing values."""
    masks = np.full((len(nodes) + 2, trees), _ALL)
    masks[np.arange(1, len(nodes) + 1), tree] = mask
    np.bitwise_and.accumulate(masks[:-1], axis=0, out=masks[:-1])
    right = nodes["missing_go_to_left"] == 0
    np.bitwise_and.at(masks[-1], tree[right], mask[right])
    return nodes["num_threshold"].copy(), masks


def _values(trees: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Give the leaves' values from left to right, tree by tree, each with room for as many as there may be."""
    values = np.zeros((len(trees), LEAVES))
    for own, nodes in zip(values, trees, strict=True):
        found = nodes["value"][nodes["is_leaf"] == 1]
        own[: len(found)] = found
    return values

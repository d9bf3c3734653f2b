"""Gradient-boosted trees, evaluated with numpy: every tree takes one step down at once.

Nodes of all trees lie in flat arrays; the right child follows the left; a leaf points at itself
with a threshold of infinity, so that walking `depth` steps from the roots needs no branch.

A forest of many nodes is laid out once more, level by level and complete: place p of a level leads
to 2p or 2p + 1 of the next. Thresholds recur over the trees, so each is compared once a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lengthwise.errors import ArtifactError

if TYPE_CHECKING:
    from lengthwise.predictors.artifact import Arrays

Array = np.ndarray[Any, np.dtype[Any]]


#: With at most so many nodes for each that is walked through, it is quicker to ask all of them.
ASK_ALL = 4
#: A complete layout of more places takes more memory than it is worth.
MAX_PLACES = 2**18


class Levels(NamedTuple):
    """A complete layout. Shapes: feature, threshold (tests,); each of tests (places of its level,).

    `tests`: which test each place of a level makes; the first is of the roots. `values` (places,)
    of the last level.
    """

    feature: Array
    threshold: Array
    tests: tuple[Array, ...]
    values: Array


@dataclass(frozen=True, kw_only=True)
class Trees:
    """A forest whose leaves add up. Shapes: roots (trees,), all others (nodes,)."""

    roots: Array
    feature: Array
    threshold: Array
    left: Array
    value: Array
    depth: int

    def sum(self, x: Array) -> float:
        """Add up the leaves that one row of features, shape (features,), reaches."""
        levels = self.levels
        if levels is not None:
            right = (x.take(levels.feature) > levels.threshold).astype(np.intp)
            place = np.arange(len(self.roots))
            for tests in levels.tests:
                step = right.take(tests.take(place))
                place += place
                place += step
            return float(np.add.reduce(levels.values.take(place)))
        at = self.roots
        if len(self.left) <= ASK_ALL * len(at) * self.depth:
            next_of = self.left + (x.take(self.feature) > self.threshold)
            for _ in range(self.depth):
                at = next_of.take(at)
        else:
            for _ in range(self.depth):
                at = self.left.take(at) + (x.take(self.feature.take(at)) > self.threshold.take(at))
        return float(np.add.reduce(self.value.take(at)))

    @cached_property
    def levels(self) -> Levels | None:
        """The complete layout, None where to ask all nodes or to walk is better."""
        trees = len(self.roots)
        if len(self.left) <= ASK_ALL * trees * self.depth or trees << self.depth > MAX_PLACES:
            return None
        order = np.lexsort((self.threshold, self.feature))
        feature, threshold = self.feature[order], self.threshold[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (np.diff(feature) != 0) | (threshold[1:] != threshold[:-1])
        test = np.empty(len(order), dtype=np.intp)
        test[order] = np.cumsum(new) - 1
        tests, at = [], self.roots
        for _ in range(self.depth):
            tests.append(test[at])
            left = self.left[at]
            at = np.column_stack((left, left + ~np.isposinf(self.threshold[at]))).reshape(-1)
        return Levels(feature[new], threshold[new], tuple(tests), self.value[at])

    def arrays(self) -> Arrays:
        """Return what `of_arrays` reads."""
        return {
            "tree_roots": self.roots.astype("<i4"),
            "tree_feature": self.feature.astype("<i4"),
            "tree_threshold": self.threshold.astype("<f8"),
            "tree_left": self.left.astype("<i4"),
            "tree_value": self.value.astype("<f8"),
            "tree_depth": np.array([self.depth], dtype="<i4"),
        }

    @classmethod
    def of_arrays(cls, arrays: Arrays, features: int) -> Trees:
        """Build from arrays. Raises ArtifactError if a node points outside its array."""
        trees = cls(
            roots=arrays["tree_roots"].astype(np.intp),
            feature=arrays["tree_feature"].astype(np.intp),
            threshold=arrays["tree_threshold"],
            left=arrays["tree_left"].astype(np.intp),
            value=arrays["tree_value"],
            depth=int(arrays["tree_depth"][0]),
        )
        if trees.left.ndim != 1 or trees.roots.ndim != 1:
            raise ArtifactError("the trees of this artifact are not flat")
        nodes = len(trees.left)
        if trees.threshold.shape != (nodes,):
            raise ArtifactError("the trees of this artifact differ in size")
        leaf = np.isposinf(trees.threshold)
        reach = trees.left + ~leaf
        sound = (
            trees.feature.shape == trees.threshold.shape == trees.value.shape == (nodes,)
            and len(trees.roots) > 0
            and 0 <= trees.depth <= 64
            and bool(np.all((trees.roots >= 0) & (trees.roots < nodes)))
            and bool(np.all((trees.left >= 0) & (reach < nodes)))
            and bool(np.all((trees.feature >= 0) & (trees.feature < features)))
            and bool(np.all(np.isfinite(trees.value)))
        )
        if not sound:
            raise ArtifactError("the trees of this artifact point outside their arrays")
        _ = trees.levels  # laid out now, so that no prediction waits for it
        return trees

    @classmethod
    def of_lightgbm(cls, dump: dict[str, Any]) -> Trees:
        """Build from `Booster.dump_model()`; numerical splits without missing values only."""
        nodes: list[list[float]] = []
        roots, depth = [], 0
        for tree in dump["tree_info"]:
            roots.append(len(nodes))
            nodes.append([])
            todo = [(tree["tree_structure"], roots[-1], 0)]
            while todo:
                node, at, level = todo.pop()
                depth = max(depth, level)
                if "leaf_value" in node:
                    nodes[at] = [0, np.inf, at, node["leaf_value"]]
                    continue
                left = len(nodes)
                nodes += [[], []]
                nodes[at] = [node["split_feature"], node["threshold"], left, 0.0]
                todo.append((node["left_child"], left, level + 1))
                todo.append((node["right_child"], left + 1, level + 1))
        # Each column in one piece: `take` of a strided one copies all of it, at every step down.
        feature, threshold, left, value = np.array(nodes, dtype=np.float64).T.copy()
        return cls(
            roots=np.array(roots, dtype=np.intp),
            feature=feature.astype(np.intp),
            threshold=threshold,
            left=left.astype(np.intp),
            value=value,
            depth=depth,
        )

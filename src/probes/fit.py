"""How well features tell the class, by cross-validation."""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from src.core.arrays import FloatArray, IntArray


def out_of_fold_scores(
    features: FloatArray, labels: IntArray, groups: NDArray[np.str_], folds: int, seed: int
) -> FloatArray:
    """Return a score for each image, shape (n,), from a fit that saw nothing of its group.

    `features` are of shape (n, columns), of whatever kinds: boosted trees need no scaling and
    find a dependency of any shape.
    """
    # Early stopping would hold out images without regard to their groups.
    trees = HistGradientBoostingClassifier(
        max_leaf_nodes=8, early_stopping=False, random_state=seed
    )
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    # At these sizes threads cost more than they save, and their sums differ in the last bits.
    with threadpool_limits(1):
        scores: FloatArray = cross_val_predict(
            trees, features, labels, groups=groups, cv=cut, method="predict_proba"
        )
    return scores[:, 1]

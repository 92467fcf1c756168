"""Logits of the validation images -> the figures that choose the best epoch."""

from typing import TypedDict

import numpy as np
import torch
from sklearn.metrics import confusion_matrix_at_thresholds, roc_auc_score
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from src.core.arrays import FloatArray, IntArray
from src.inference.log_odds import fake_logit


class Figures(TypedDict):
    """What validation says about one epoch."""

    val_loss: float
    val_mcc: float
    val_auroc: float


def validate(logits: Tensor, labels: IntArray) -> Figures:
    """Return the figures of `logits` (images, classes) for `labels` (images,)."""
    scores = fake_logit(logits.numpy())
    loss = binary_cross_entropy_with_logits(
        torch.from_numpy(scores), torch.tensor(labels, dtype=torch.float64)
    )
    return Figures(
        val_loss=float(loss),
        val_mcc=best_mcc(labels, scores),
        val_auroc=float(roc_auc_score(labels, scores)),
    )


def best_mcc(labels: IntArray, scores: FloatArray) -> float:
    """Return the largest Matthews correlation over all thresholds.

    That is what counts: `evaluate` locks the threshold that is best on validation, so a detector
    that ranks well must not lose to one that happens to be centred on 0.5.
    """
    counts = np.array(confusion_matrix_at_thresholds(labels, scores)[:4], dtype=np.float64)
    tn, fp, fn, tp = counts
    scale = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    mcc = np.divide(tp * tn - fp * fn, scale, out=np.zeros_like(scale), where=scale > 0)
    return float(mcc.max())

"""Logits of the validation images -> the metrics that choose the best epoch."""

from typing import TypedDict

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from src.core.arrays import IntArray
from src.evaluation.ranking import Ranking, auroc, confusions, mcc
from src.models.shared.log_odds import fake_logit


class ValMetrics(TypedDict):
    """What validation says about one epoch."""

    val_loss: float
    val_mcc: float
    val_auroc: float


def validate(logits: Tensor, labels: IntArray) -> ValMetrics:
    """Return the metrics of `logits` (images, classes) for `labels` (images,).

    The MCC is the largest over all thresholds: `evaluate` locks the threshold that is best on
    validation, so a detector that ranks well must not lose to one that is centred on 0.5 by chance.
    """
    scores = fake_logit(logits.numpy())
    loss = binary_cross_entropy_with_logits(
        torch.from_numpy(scores), torch.tensor(labels, dtype=torch.float64)
    )
    curve = Ranking(labels, scores).curve()
    return ValMetrics(
        val_loss=float(loss), val_mcc=float(mcc(confusions(curve)).max()), val_auroc=auroc(curve)
    )

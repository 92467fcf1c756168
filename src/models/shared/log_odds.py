"""Logits of classes -> the log odds of fake."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from src.core.arrays import FloatArray


def fake_logit(logits: NDArray[Any]) -> FloatArray:
    """Return the log odds of fake, shape (images,), of logits (images, classes).

    Class 0 is real and every other one a sort of fake, so P(fake) = 1 - P(real).
    """
    doubles = np.asarray(logits, dtype=np.float64)
    odds: FloatArray = logsumexp(doubles[:, 1:], axis=1) - doubles[:, 0]
    return odds

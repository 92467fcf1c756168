"""Logits of classes -> the log odds of fake."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp


def fake_logit(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the log odds of fake, shape (images,), of logits (images, classes).

    Class 0 is real and every other one a sort of fake, so P(fake) = 1 - P(real).
    """
    doubles = np.asarray(logits, dtype=np.float64)
    odds: NDArray[np.float64] = logsumexp(doubles[:, 1:], axis=1) - doubles[:, 0]
    return odds

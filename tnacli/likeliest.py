"""What logits say: the probability of each class, and which are the likeliest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


def probabilities(logits: Logits) -> NDArray[np.float64]:
    """The softmax of `logits`, [N, classes]: what the cross-entropy of training takes for probabilities."""
    risen = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = risen / risen.sum(axis=1, keepdims=True)
    return shares


def likeliest(logits: Logits, count: int) -> NDArray[np.int64]:
    """The `count` likeliest classes of each row of `logits` [N, classes], likeliest first, of equals the first: [N, count]."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]

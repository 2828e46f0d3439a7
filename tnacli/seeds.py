"""Independent random streams from one seed and a name.

Every random choice of a run draws from a stream of its own (`base`, `sibling 1`, `order`, `augment`, ...), so that, say,
a baseline and a twin run of the same seed start from the same base weights and see the same batches.
"""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the stream called `names` of the run with `seed`; equal arguments, equal streams."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1

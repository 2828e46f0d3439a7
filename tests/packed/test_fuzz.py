"""Whatever happens to a file: it is refused, or the network in it is what it was."""

from __future__ import annotations

import io
import random
import sys

import numpy as np

from tests.packed.networks import make_network, make_packed, same
from tnacli.errors import FileFormatError
from tnacli.packed import container
from tnacli.packed.document import seal
from tnacli.packed.file import digest_of, from_bytes, to_bytes


def fuzz(data: bytes, rounds: int, seed: int = 0) -> tuple[int, int]:
    """Read `rounds` mutations of the file `data`: how many were refused, and how many left the network as it
    was.

    Any other exception, or a network that is not that of `data`, fails. By hand: `python -m
    tests.packed.test_file 10000`.
    """
    rng, original = random.Random(seed), from_bytes(data)
    refused = harmless = 0
    for number in range(rounds):
        mutated = _mutated(data, rng)
        try:
            found = from_bytes(mutated)
        except FileFormatError:
            refused += 1
        else:
            assert same(found, original), f"mutation {number} of seed {seed} changed the network"
            harmless += 1
    return refused, harmless


def _mutated(data: bytes, rng: random.Random) -> bytes:
    header = 8 + int.from_bytes(data[:8], "little")
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        place = rng.randrange(header if rng.random() < 0.7 else len(mutated)) % len(mutated)
        match rng.randrange(6):
            case 0:
                mutated[place] ^= 1 << rng.randrange(8)
            case 1:
                mutated[place] = rng.choice(b'0123456789"{}[]:,\\ \n-.eE\x00\xff')
            case 2:
                del mutated[place : place + rng.randrange(1, 9)]
            case 3:
                mutated[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                other = rng.randrange(header)
                mutated[place : place + 8] = data[other : other + 8]
            case _:
                del mutated[place + 1 :]
        if len(mutated) < header:
            break
    if rng.random() < 0.5:
        # With the right length of the header again, or most mutations of it would be found by that alone.
        mutated[:8] = max(0, header + len(mutated) - len(data) - 8).to_bytes(8, "little")
    return bytes(mutated)


def test_mutations_are_refused_or_harmless(packed_bytes: bytes) -> None:
    refused, _ = fuzz(packed_bytes, 400)
    assert refused > 300


def test_mutations_under_a_new_seal_are_read_or_refused(packed_bytes: bytes) -> None:
    rng = random.Random(1)
    text, arrays = container.read(io.BytesIO(packed_bytes), len(packed_bytes), "")
    body = text[:-77]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        changed = bytearray(body.encode())
        for _ in range(rng.randrange(3)):
            changed[rng.randrange(len(changed))] = rng.choice(b'0123456789"{}[]:,-.eE azx')
        new_body = changed.decode(errors="replace")
        new_arrays = {name: array.copy() for name, array in arrays.items()}
        if rng.random() < 0.5:
            chosen = new_arrays[rng.choice(sorted(new_arrays))].reshape(-1).view(np.uint8)
            chosen[rng.randrange(chosen.size)] = rng.randrange(256)
        try:
            from_bytes(container.to_bytes(seal(new_body, digest_of(new_body, new_arrays)), new_arrays))
            outcomes["read"] += 1
        except FileFormatError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20


if __name__ == "__main__":
    print(fuzz(to_bytes(make_packed(make_network())), int(sys.argv[1]), seed=random.randrange(1 << 30)))

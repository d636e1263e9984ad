"""Random numbers with an address: every random choice of the project is a pure function of a seed and a purpose.

There is no global generator. The same address gives the same numbers whatever ran before, on whichever
worker, machine or order (shared decision of the study: a pair is a function of seed, kind and index).
"""

from __future__ import annotations

import hashlib

import numpy as np


def _digest(seed: int, address: tuple[str | int, ...], n_bytes: int) -> int:
    text = "/".join([str(int(seed)), *(str(part) for part in address)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=n_bytes).digest(), "little")


def generator(seed: int, *address: str | int) -> np.random.Generator:
    """Return the numpy generator of an address, for example ``generator(1, "pair", "1obj", 12345)``.

    Philox is counter based: its 128-bit key is a hash of the address, so neighbouring addresses are
    independent.
    """
    return np.random.Generator(np.random.Philox(key=_digest(seed, address, 16)))


def torch_seed(seed: int, *address: str | int) -> int:
    """Return an address's seed for ``torch.manual_seed`` (63 bits, so it fits a signed integer)."""
    return _digest(seed, address, 8) >> 1

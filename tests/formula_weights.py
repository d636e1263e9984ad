"""Weights by formula: the networks of the measurements have no stored weights, each key gives its own."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch

_FILLS = {
    "plain": lambda v: v,
    "one_plus": lambda v: np.float32(1) + v,
    "one_plus_abs": lambda v: np.float32(1) + np.abs(v),
    "zero": np.zeros_like,
}


def key_list(shared: Path, network: str) -> list[dict]:
    """Return the entries {key, shape, fill} of a measured network, in the order of its state dict."""
    return json.loads((shared / "golden" / "a_state_dict_keys.json").read_text())[network]


def formula_state(entries: list[dict]) -> dict[str, torch.Tensor]:
    """Return the state dict of a measured network: of each key a generator seeded with the key's CRC-32."""
    state = {}
    for entry in entries:
        draw = np.random.default_rng(zlib.crc32(entry["key"].encode())).standard_normal(entry["shape"])
        state[entry["key"]] = torch.from_numpy(np.array(_FILLS[entry["fill"]]((draw * 0.05).astype(np.float32))))
    return state

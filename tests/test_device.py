"""Which device work runs on: what is there, and words for what is not."""

from __future__ import annotations

import pytest
import torch

from segswap.device import pick_device
from segswap.errors import InputError


@pytest.fixture(params=[0, 2])
def gpus(request, monkeypatch) -> int:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    return request.param


def test_auto_takes_a_gpu_where_there_is_one(gpus):
    assert pick_device("auto").type == ("cuda" if gpus else "cpu")
    assert pick_device("cpu").type == "cpu"


def test_a_gpu_that_is_there_is_taken_and_another_is_named(gpus):
    for number in range(4):
        if number < gpus:
            assert pick_device(f"cuda:{number}") == torch.device("cuda", number)
        else:
            with pytest.raises(InputError, match=rf"'cuda:{number}': (no GPU|only 2)"):
                pick_device(f"cuda:{number}")


@pytest.mark.parametrize("name", ["banana", "cuda:x", "", "cpu cuda"])
def test_what_is_no_device_is_said_with_what_is(name):
    with pytest.raises(InputError, match="expected auto, cpu, cuda"):
        pick_device(name)

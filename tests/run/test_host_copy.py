"""What a copy of a checkpoint shares with what it was made of: nothing."""

from collections import OrderedDict
from typing import Any

import tiny
import torch
from torch import nn

from tenshot.run.host_copy import host_copy


def test_nothing_that_changes_later_shows_in_the_copy():
    weight, history = torch.ones(3), [1.0, [2.0]]
    tree: dict[str, Any] = {"a": {"b": [weight, (weight[1:], 5)]}, "history": history, "set": {1}, "name": "x"}
    copied = host_copy(tree)
    weight.mul_(7)
    history[1].append(3.0)  # type: ignore[union-attr]
    history.append(9.0)
    tree["set"].add(2)
    tree["a"]["b"].append(0)
    expected = {"a": {"b": [torch.ones(3), (torch.ones(2), 5)]}, "history": [1.0, [2.0]], "set": {1}, "name": "x"}
    tiny.assert_same(copied, expected)


def test_a_state_dict_is_read_back_as_it_was(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    state = network.state_dict()
    copied = host_copy({"state_dict": state})["state_dict"]
    assert type(copied) is OrderedDict
    assert copied._metadata == state._metadata  # type: ignore[attr-defined]
    assert copied["0.weight"].stride() == state["0.weight"].stride()
    torch.save(copied, tmp_path / "copy.pt")
    torch.save(state, tmp_path / "made.pt")
    assert (tmp_path / "copy.pt").stat().st_size == (tmp_path / "made.pt").stat().st_size
    tiny.assert_same(torch.load(tmp_path / "copy.pt", weights_only=True), dict(state))


def test_what_was_one_tensor_stays_one():
    tied = torch.zeros(3)
    copied = host_copy({"a": tied, "b": tied})
    assert copied["a"] is copied["b"]
    assert copied["a"].data_ptr() != tied.data_ptr()

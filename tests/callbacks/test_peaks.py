"""Peaks of graphics cards, by the names that CUDA gives them."""

import logging

import pytest
import torch

from tenshot.callbacks import Throughput
from tenshot.callbacks.peaks import CARDS, peak_of

CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H200", 989.5),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA GH200 480GB", 989.5),
        ("NVIDIA B200", 2250.0),
        ("NVIDIA GB200", 2500.0),
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA A100 80GB PCIe", 312.0),
        ("NVIDIA A100-SXM-64GB", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA A10", 125.0),
        ("NVIDIA A10G", None),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("Tesla V100-SXM2-32GB", None),  # no bfloat16
        ("NVIDIA Unheard-of", None),
    ],
)
def test_the_longest_name_that_fits_gives_the_dense_peak_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, name: str, tflops: float | None
):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_of(CUDA, "bf16-mixed") == (None if tflops is None else tflops * 1e12)


def test_the_peak_is_that_of_the_precision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert peak_of(CUDA, "32-true") == 494.5e12
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert peak_of(CUDA, "32-true") == 67e12
    assert peak_of(CUDA, "16-mixed") == peak_of(CUDA, "bf16-true") == 989.5e12
    assert peak_of(CUDA, "64-true") is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100-SXM2-32GB")
    assert peak_of(CUDA, "16-mixed") == 125e12
    assert peak_of(torch.device("cpu"), "bf16-mixed") is None


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card is not None])
def test_tensor_cores_do_twice_as_much_in_half_the_bytes(name: str):
    card = CARDS[name]
    assert card is not None
    assert card.bfloat16 in (None, card.float16)
    if card.tf32 is not None:
        assert card.float16 / card.tf32 == pytest.approx(2, rel=0.03)
        assert card.float32 <= card.tf32


def test_a_card_that_is_not_in_the_table_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Unheard-of")
    caplog.set_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero")
    for device, times in ((CUDA, 1), (torch.device("cpu"), 0)):
        caplog.clear()
        speeds = Throughput()
        speeds._device = device
        speeds._find_peak("32-true")
        assert caplog.text.count("no speed/mfu: the peak of NVIDIA Unheard-of in 32-true is not in") == times

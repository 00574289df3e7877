"""What graphics cards can do at most, by their makers' data sheets: what MFU is a share of."""

import re
from typing import NamedTuple

import torch

__all__ = ["CARDS", "Peak", "peak_of"]


class Peak(NamedTuple):
    """Dense floating point operations a second, in 10^12, by the precision of the factors.

    Args:
        bfloat16: Tensor cores, sums in float32; none where they do not take it.
        float16: The same.
        tf32: The same.
        float32: Without tensor cores.
    """

    bfloat16: float | None
    float16: float
    tf32: float | None
    float32: float


AMPERE_A100 = Peak(312.0, 312.0, 156.0, 19.5)
HOPPER_SXM = Peak(989.5, 989.5, 494.5, 67.0)
HOPPER_NVL = Peak(835.5, 835.5, 417.5, 60.0)

CARDS: dict[str, Peak | None] = {
    # NVIDIA Tesla V100 and V100S data sheets; T4 data sheet
    "V100-SXM2": Peak(None, 125.0, None, 15.7),
    "V100-PCIE": Peak(None, 112.0, None, 14.0),
    "V100S": Peak(None, 130.0, None, 16.4),
    "T4": Peak(None, 65.0, None, 8.1),
    # NVIDIA A100, A30, A40, A10 data sheets; RTX A6000 data sheet
    "A100": AMPERE_A100,
    "A100-SXM-64GB": None,  # made for one customer
    "A30": Peak(165.0, 165.0, 82.0, 10.3),
    "A40": Peak(149.7, 149.7, 74.8, 37.4),
    "A10": Peak(125.0, 125.0, 62.5, 31.2),
    "RTX A6000": Peak(154.8, 154.8, 77.4, 38.7),
    # NVIDIA L4 and L40S data sheets
    "L4": Peak(121.0, 121.0, 60.0, 30.3),
    "L40S": Peak(362.0, 362.0, 183.0, 91.6),
    # NVIDIA Ampere GA102 and Ada white papers, sums in float32
    "RTX 3090": Peak(71.0, 71.0, 35.6, 35.6),
    "RTX 3090 Ti": None,
    "RTX 4090": Peak(165.2, 165.2, 82.6, 82.6),
    "RTX 4090 D": None,
    "RTX 4090 Laptop GPU": None,
    # NVIDIA H100, H200 and GH200 data sheets: half of what they give "with sparsity"
    "H100 80GB HBM3": HOPPER_SXM,
    "H100 SXM5": HOPPER_SXM,
    "H100 PCIe": Peak(756.5, 756.5, 378.0, 51.0),
    "H100 NVL": HOPPER_NVL,
    "H200": HOPPER_SXM,
    "H200 NVL": HOPPER_NVL,
    "GH200": HOPPER_SXM,
    # NVIDIA Blackwell data sheets (HGX B200, GB200 NVL72; a GPU): half of what they give "with sparsity"
    "B200": Peak(2250.0, 2250.0, 1100.0, 75.0),
    "GB200": Peak(2500.0, 2500.0, 1250.0, 80.0),
}  # fmt: skip
"""By words of the name that CUDA gives; the longest that is in a name counts. None: a card of another peak."""


def peak_of(device: torch.device, precision: str) -> float | None:
    """Operations a second that a device can do at most, in the precision of most of the work of a run.

    Args:
        device: Where the run is.
        precision: Of the trainer. In float32 it depends on whether convolutions are in TF32 at the time of the call.

    Returns:
        None for CPUs, cards that are not in the table, and parts of a card (MIG).
    """
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    found = [words for words in CARDS if re.search(rf"(?<!\w){re.escape(words)}(?!\w)", name)]
    card = CARDS[max(found, key=len)] if found and "MIG" not in name.split() else None
    if card is None:
        return None
    kind = precision.partition("-")[0]
    if kind == "32":
        kind = "tf32" if torch.backends.cudnn.conv.fp32_precision == "tf32" else "32"  # type: ignore[attr-defined]
    peak = {"bf16": card.bfloat16, "16": card.float16, "tf32": card.tf32 or card.float32, "32": card.float32}.get(kind)
    return None if peak is None else peak * 1e12

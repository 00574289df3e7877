"""Kept memory shows in page faults, counted in processes of their own: the setting lasts as long as a process."""

import subprocess
import sys

import pytest

from tenshot.cli import allocator

SCRIPT = """
import resource, sys, torch
from tenshot.cli.allocator import keep_freed_memory
made = keep_freed_memory() if sys.argv[1] == "keep" else None

def step():
    x = torch.ones(12 * 2**20)  # 48 MiB, more than malloc keeps by itself
    y = x + 1
    return y.sum().item()

for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(made, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def measure(setting: str) -> tuple[str, int]:
    """What the function said, and the page faults of ten steps."""
    words = subprocess.run([sys.executable, "-c", SCRIPT, setting], capture_output=True, text=True, check=True)
    made, faults = words.stdout.split()
    return made, int(faults)


def test_freed_memory_is_reused_without_page_faults():
    made, kept = measure("keep")
    if made == "False":
        pytest.skip("no glibc here")
    _, returned = measure("default")
    assert kept < returned / 10


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("touched the C library"))
    assert allocator.keep_freed_memory() is False

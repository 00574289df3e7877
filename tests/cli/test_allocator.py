"""Kept memory shows in page faults, counted in a process of their own: the setting lasts as long as a process."""

import subprocess
import sys

import pytest

from tenshot.cli import allocator

SCRIPT = """
import resource, torch
from tenshot.cli.allocator import keep_freed_memory

def step():
    x = torch.ones(12 * 2**20)  # 48 MiB, more than malloc keeps by itself
    y = x + 1
    return y.sum().item()

def faults():
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed_memory(), faults())
"""


def test_freed_memory_is_reused_without_page_faults():
    words = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    returned, made, kept = words.stdout.split()
    if made == "False":
        pytest.skip("no glibc here")
    assert int(kept) < int(returned) / 10


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("touched the C library"))
    assert allocator.keep_freed_memory() is False

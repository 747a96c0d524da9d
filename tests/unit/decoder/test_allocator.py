"""Freed memory is kept, where there is glibc and nobody says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource
from mtl.decoder.allocator import keep_freed_memory
import torch

kept = keep_freed_memory()
for _ in range(20):  # until places are found that nothing small has come to lie in
    torch.ones(16 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(16 * 2**20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
HAS_GLIBC = sys.platform.startswith("linux") and "glibc" in os.confstr("CS_GNU_LIBC_VERSION")


def faults(**environment: str) -> tuple[str, int]:
    """Whether memory is kept, and page faults of twenty tensors of 64 MiB, one after the other."""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={**known, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, count = done.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(not HAS_GLIBC, reason="the C library is not glibc")
def test_the_next_tensor_takes_the_place_of_the_freed_one():
    kept, count = faults()
    assert kept == "True"
    assert count < 1000


@pytest.mark.skipif(not HAS_GLIBC, reason="the C library is not glibc")
@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_MMAP_THRESHOLD_": "100000"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=100"}],
)
def test_a_persons_own_setting_stands(environment):
    kept, count = faults(**environment)
    assert kept == "False"
    assert (
        count > 20 * 64 * 2**20 // 2**21
    )  # a fault each two megabytes at least, with the largest pages


def test_another_system_is_left_alone(monkeypatch):
    from mtl.decoder import allocator

    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False


def test_another_c_library_is_left_alone(monkeypatch):
    from mtl.decoder import allocator

    for name in ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory() is False

"""Memory that stays: tensors of one step take the places of the step before, instead of fresh pages."""

from __future__ import annotations

import ctypes
import os
import sys

# From glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have this process keep the memory it frees. False where the C library is not glibc: nothing changes then.

    By default glibc asks the kernel for large blocks one by one and gives each back when it is freed, so that every
    step of training touches new pages for every activation, and a fresh page costs some ten times what writing to it
    does. From here on the process stays as large as it was at its largest. A person's own ``MALLOC_*`` or
    ``GLIBC_TUNABLES`` in the environment stands.
    """
    if not sys.platform.startswith("linux") or _told_otherwise():
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  another C library has its own way, and its own numbers
        set_option = library.mallopt
    except (OSError, AttributeError):
        return False
    # Both return 1 on success.
    return bool(set_option(_MMAP_MAX, 0) & set_option(_TRIM_THRESHOLD, _NEVER))


def _told_otherwise() -> bool:
    options = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return any(option in os.environ for option in options) or "glibc.malloc." in tunables

"""Whether a process of this machine is still there, whatever number it had."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def owner() -> dict[str, Any]:
    """This process, so that another one can tell whether it is still there."""
    return {"host": _host(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_gone(found: Mapping[str, Any] | None) -> bool:
    """Whether a process of this machine is no more; False where it ran on another one."""
    if found is None or found.get("host") != _host():
        return False
    return _started(int(found["pid"])) != found["started"]


def _host() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    with contextlib.suppress(OSError):
        # Containers of one machine share its boot, and number their processes each for itself.
        boot += os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()} {boot}"


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's own unit; None where there is none, or it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _alive(pid)
    state, *rest = text.rpartition(")")[2].split()
    return None if state == "Z" else rest[18]


def _alive(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"

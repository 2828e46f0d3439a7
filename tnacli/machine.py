"""What a result was computed on and by: the processor's name, and the commit of a checkout."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """The processor's name as the operating system knows it; empty where it does not say."""
    return cpuinfo("model name") or platform.processor()


@cache
def processor_family() -> tuple[str, int] | None:
    """The vendor and the family of an x86 processor, such as ("AuthenticAMD", 25); None where Linux does not say."""
    vendor, family = cpuinfo("vendor_id"), cpuinfo("cpu family")
    return (vendor, int(family)) if vendor and family.isdecimal() else None


@cache
def cpuinfo(key: str) -> str:
    """What Linux says of the first processor under `key`, "flags" for one; empty where it says nothing."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    except OSError:
        pass
    return ""


@cache
def commit() -> str | None:
    """The commit of the checkout that the package is imported from, with a + if files have changed since; None elsewhere."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        asked = ("git", "-C", str(root), "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+")
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None

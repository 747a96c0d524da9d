"""Which web addresses lie in a domain: GPT-2's WebText leaves Wikipedia out (section 2.1)."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit


def host(address: str) -> str:
    """The host of an address, with or without a scheme before it; empty where there is none."""
    address = address.strip()
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        return (parts.hostname or "").rstrip(".")
    except ValueError:  # brackets of an IPv6 address that do not close
        return ""


def in_domains(address: str, domains: Collection[str]) -> bool:
    """Whether the host is one of ``domains`` or lies below one: ``en.wikipedia.org`` below ``wikipedia.org``."""
    name = host(address)
    return any(name == domain or name.endswith(f".{domain}") for domain in map(_plain, domains))


def _plain(domain: str) -> str:
    return domain.lower().strip(".")

"""Leasing: time-bound, GPU-pinned containers for ML developers.

`from leasing import Client` is the SDK. It is resolved lazily so that importing a small part of the package never
loads an HTTP client, and never a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leasing.sdk.client import Client

__all__ = ["Client", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "Client":
        from leasing.sdk.client import Client  # lazy: keeps `import leasing.units` free of httpx

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

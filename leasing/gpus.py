"""What a lease asks of devices, as people write it: `1`, `A100:2`, `0.5`, `24GB`, `A100:24GB`, `1g.10gb`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from leasing.errors import Invalid
from leasing.units import format_size, parse_size

WHOLE = 1000
"""The share that is all of a device."""
MAX_DEVICES = 1024
HINT = "Write it like 1, A100:2, 0.5, 24GB, A100:24GB or 1g.10gb."

_COUNT = re.compile(r"\d{1,4}", re.ASCII)
_PART = re.compile(r"0?\.\d{1,3}", re.ASCII)
_SIZE = re.compile(r"\d{1,9}(?:\.\d{1,3})?\s?[kmgtp]i?b?", re.ASCII | re.IGNORECASE)
_PROFILE = re.compile(r"\d{1,2}g\.\d{1,4}gb(?:\+[a-z.]{1,10})?", re.ASCII | re.IGNORECASE)
_MODEL = re.compile(r"[A-Za-z][A-Za-z0-9 _.-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class GpuAsk:
    """So many devices, and of each a share in thousandths, or as much of it as has `memory_bytes`.

    `model` is matched as a part of NVML's name for a device, in any case; so is a MIG profile, which NVML's name for an
    instance holds.
    """

    count: int
    model: str | None = None
    share: int = WHOLE
    memory_bytes: int | None = None

    def __str__(self) -> str:
        if self.memory_bytes is not None:
            amount = f"{format_size(self.memory_bytes)}B"
        elif self.share < WHOLE:
            amount = f"{self.share / WHOLE:g}"
        else:
            amount = str(self.count)
        if self.model is None:
            return amount
        return self.model if self.profile and self.count == 1 else f"{self.model}:{amount}"

    @property
    def whole(self) -> bool:
        return self.share == WHOLE and self.memory_bytes is None

    @property
    def profile(self) -> bool:
        """Whether MIG instances of a profile are asked for."""
        return self.model is not None and _PROFILE.fullmatch(self.model) is not None

    def takes(self, model: str, *, instance: bool) -> bool:
        """Whether a device of NVML's name `model` will do; an `instance` of MIG only for who names it."""
        if self.model is None:
            return not instance
        named = self.model.casefold() in model.casefold()
        return named and (not instance or self.profile or "mig" in self.model.casefold())

    def share_of(self, memory_bytes: int) -> int | None:
        """The share of a device with so much memory; None if it has too little.

        Who asks for memory gets as much of the device's time as of its memory, and the other way round.
        """
        if self.memory_bytes is None:
            return self.share
        if memory_bytes < self.memory_bytes:
            return None
        return max(1, math.ceil(WHOLE * self.memory_bytes / memory_bytes))

    def memory_of(self, memory_bytes: int) -> int:
        """What the lease gets of a device with so much memory."""
        if self.memory_bytes is not None:
            return self.memory_bytes
        return memory_bytes * self.share // WHOLE


NO_GPU = GpuAsk(0)


def parse_gpu(text: str) -> GpuAsk:
    """The ask. Raises `Invalid` for anything else."""
    text = text.strip()
    if (alone := _amount(text, None)) is not None:
        return _bounded(alone, text)
    if _PROFILE.fullmatch(text) or _MODEL.fullmatch(text):
        return GpuAsk(1, text)
    model, _, amount = text.rpartition(":")
    if _PROFILE.fullmatch(model) and _COUNT.fullmatch(amount) and int(amount):
        return _bounded(GpuAsk(int(amount), model), text)
    if _MODEL.fullmatch(model) and (of_model := _amount(amount, model)) is not None and of_model.count:
        return _bounded(of_model, text)
    raise Invalid(f"{text[:40]!r} is not a GPU ask.", hint=HINT)


def _amount(text: str, model: str | None) -> GpuAsk | None:
    if _COUNT.fullmatch(text):
        return GpuAsk(int(text), model)
    if _PART.fullmatch(text) and (share := round(float(text) * WHOLE)):
        return GpuAsk(1, model, share)
    if _SIZE.fullmatch(text):
        return GpuAsk(1, model, memory_bytes=parse_size(text))
    return None


def _bounded(ask: GpuAsk, text: str) -> GpuAsk:
    if ask.count > MAX_DEVICES:
        raise Invalid(f"{text[:40]!r} asks for more than {MAX_DEVICES} devices.", hint=HINT)
    return ask

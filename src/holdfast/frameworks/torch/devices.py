"""Where loaded tensors go."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from holdfast.errors import UsageError

__all__ = ["choose_device"]

_LOG: Final = logging.getLogger("holdfast")


def choose_device(wanted: str, facts: Mapping[str, Any]) -> str:
    """Choose the device: the caller's, else the kind it was saved on where there is one.

    Args:
        wanted: ``"auto"`` or a device's name.
        facts: May tell under ``device`` where the model was when it was saved.

    Raises:
        UsageError: The wanted device is not one of torch's, or is not here.
    """
    import torch

    saved = facts.get("device", "cpu")
    try:
        device = torch.device(str(saved) if wanted == "auto" else wanted)
    except RuntimeError as error:
        if wanted == "auto":
            return "cpu"
        raise UsageError(
            f"device={wanted!r} is not a device of torch.",
            hint='holdfast.load("REF", device="cpu")',
        ) from error
    if _available(device):
        return str(device)
    if wanted != "auto":
        raise UsageError(
            f"There is no device {wanted!r} here.", hint='holdfast.load("REF", device="cpu")'
        )
    if device.type != "cpu" and _available(torch.device(device.type)):
        return str(device.type)
    _LOG.info("saved on %s; none here: loaded on cpu", saved)
    return "cpu"


def _available(device: Any) -> bool:
    import torch

    if device.type in {"cpu", "meta"}:
        return True
    if device.type == "cuda":
        return bool((device.index or 0) < torch.cuda.device_count())
    backend = getattr(torch, device.type, None) or getattr(torch.backends, device.type, None)
    return bool(backend is not None and hasattr(backend, "is_available") and backend.is_available())

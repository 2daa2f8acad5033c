"""Which rung serves a load: the model here, its portable form, or the environment of its save."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from holdfast.api import load, portable, worker
from holdfast.api.load import Loaded
from holdfast.environment import recreate
from holdfast.errors import (
    BehaviourMismatch,
    EnvironmentMismatch,
    HoldfastError,
    UsageError,
)
from holdfast.frameworks import LoadOptions

if TYPE_CHECKING:
    from holdfast.api.version import Version

__all__ = ["load_version"]

_log = logging.getLogger("holdfast")

_ENVIRONMENTS: Final = ("auto", "here", "portable", "recorded")


def load_version(
    version: Version, options: LoadOptions, *, environment: str, verify: str, replay: str
) -> Loaded:
    """Load a version here, or where that is refused by the first rung below that serves.

    Args:
        version: Which.
        options: What the caller asked.
        environment: ``"here"``, ``"portable"``, ``"recorded"``, or ``"auto"``: each after the one
            before it.
        verify: See ``holdfast.load``.
        replay: See ``holdfast.load``.

    Raises:
        UsageError: ``environment`` is none of these.
        Anything ``load.load_model``, ``portable.load_portable`` and ``worker.load_recorded`` raise.
    """
    if environment not in _ENVIRONMENTS:
        raise UsageError(
            f"environment={environment!r:.60} is not known; use 'auto', 'here', 'portable' or "
            "'recorded'.",
            hint=f"holdfast.load({version.ref!r})",
        )
    if environment == "portable":
        load.require_known(version.ref, verify=verify, replay=replay)
        return portable.load_portable(version, options, replay=replay)
    if environment == "recorded":
        return worker.load_recorded(version, options, verify=verify, replay=replay)
    try:
        return load.load_model(
            version.store,
            version.manifest_id,
            ref=version.ref,
            options=options,
            verify=verify,
            replay=replay,
        )
    except (EnvironmentMismatch, BehaviourMismatch) as refusal:
        if environment == "here":
            raise
        loaded = _portable_instead(version, options, refusal, replay=replay)
        if loaded is not None:
            return loaded
        if not worker.would_help(version, options):
            raise
        if recreate.uv() is None:  # having it is the consent to install
            refusal.message += (
                " With uv installed (python -m pip install uv) it would answer from the "
                "environment it was saved in."
            )
            raise
        return _instead(version, options, refusal, verify=verify, replay=replay)


def _portable_instead(
    version: Version, options: LoadOptions, refusal: HoldfastError, *, replay: str
) -> Loaded | None:
    """Return the portable form of what does not load here; None where there is none that serves."""
    # What answered otherwise under the very libraries of its save is damaged, not grown old.
    other = isinstance(refusal, EnvironmentMismatch) or worker.differs(version.record.environment)
    if not (other and portable.is_there(version, options)):
        reason = (version.record.portable or {}).get("reason")
        if reason is not None:
            refusal.message += f" It has no portable form: {reason!s:.300}."
        return None
    try:
        loaded = portable.load_portable(version, options, replay=replay)
    except HoldfastError as error:
        refusal.message += f" Its portable form does not help: {error.message}"
        return None
    _log.warning(
        "%s does not load here, so its portable form answers: %r. %s",
        version.ref,
        loaded.model,
        refusal.message,
    )
    return loaded


def _instead(
    version: Version, options: LoadOptions, refusal: HoldfastError, *, verify: str, replay: str
) -> Loaded:
    try:
        loaded = worker.load_recorded(version, options, verify=verify, replay=replay)
    except HoldfastError as error:
        refusal.message += f" Its recorded environment does not help: {error.message}"
        raise refusal from error
    _log.warning(
        "%s does not load here, so it answers from the environment it was saved in: %r. %s",
        version.ref,
        loaded.model,
        refusal.message,
    )
    return loaded

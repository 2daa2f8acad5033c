"""Which rung serves a load: this environment, or the one that the version was saved in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from holdfast.api import load, worker
from holdfast.api.load import Loaded
from holdfast.environment import recreate
from holdfast.errors import BehaviourMismatch, EnvironmentMismatch, HoldfastError, UsageError
from holdfast.frameworks import LoadOptions

if TYPE_CHECKING:
    from holdfast.api.version import Version

__all__ = ["load_version"]

_log = logging.getLogger("holdfast")

_ENVIRONMENTS: Final = ("auto", "here", "recorded")


def load_version(
    version: Version, options: LoadOptions, *, environment: str, verify: str, replay: str
) -> Loaded:
    """Load a version here, or where that is refused in its recorded environment.

    Args:
        version: Which.
        options: What the caller asked.
        environment: ``"here"``, ``"recorded"``, or ``"auto"``: the second after the first.
        verify: See ``holdfast.load``.
        replay: See ``holdfast.load``.

    Raises:
        UsageError: ``environment`` is none of these.
        Anything ``load.load_model`` and ``worker.load_recorded`` raise.
    """
    if environment not in _ENVIRONMENTS:
        raise UsageError(
            f"environment={environment!r:.60} is not known; use 'auto', 'here' or 'recorded'.",
            hint=f"holdfast.load({version.ref!r})",
        )
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
        if environment == "here" or not worker.would_help(version, options):
            raise
        if recreate.uv() is None:  # having it is the consent to install
            refusal.message += (
                " With uv installed (python -m pip install uv) it would answer from the "
                "environment it was saved in."
            )
            raise
        return _instead(version, options, refusal, verify=verify, replay=replay)


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

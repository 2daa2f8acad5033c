"""What a registry answers, or does not, as errors with one next step.

Of its own words only the status and the error codes are repeated: the text could be anything.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from holdfast.errors import HoldfastError, NoSpace, RemoteError
from holdfast.remote.oci.place import SCHEMES, Place

__all__ = [
    "LONGEST_WAIT",
    "Answer",
    "Words",
    "is_untrusted",
    "seconds_to_wait",
    "why",
]

# Seconds that a registry may ask a client to wait.
LONGEST_WAIT: Final = 60.0

_CODE: Final = re.compile(r"[A-Z][A-Z_]{0,59}")
_KEPT: Final = "What has come over is kept, so that trying again goes on from there."


class Answer(NamedTuple):
    """What came back, whole.

    Attributes:
        status: HTTP status.
        headers: Its headers, looked up in any case.
        data: Its body.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes

    def codes(self) -> list[str]:
        """Return its error codes, or a word for a page that is no registry's."""
        try:
            codes = [error.get("code") for error in json.loads(self.data).get("errors")][:3]
        except (ValueError, RecursionError, TypeError, AttributeError):
            is_page = "html" in self.headers.get("content-type", "").lower()
            return ["with a web page, as no registry does"] if is_page else []
        return [code for code in codes if isinstance(code, str) and _CODE.fullmatch(code)]


class Words:
    """Errors of one registry.

    Args:
        place: A place in it.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._shown = f"{SCHEMES[0]}://{place.host}"
        self._again = f"curl -sSi {'http' if place.plain else 'https'}://{place.host}/v2/"

    def nonsense(self, what: str) -> RemoteError:
        """Word an answer that no registry gives."""
        return RemoteError(f"{self._shown} sends {what}.", hint=self._again, ref=self._shown)

    def astray(self, where: str) -> RemoteError:
        """Word an address that is not gone to."""
        return RemoteError(
            f"{self._shown} sends this client to {where}, and it does not go there.",
            hint=self._again,
            ref=self._shown,
        )

    def cut(self, reason: str) -> RemoteError:
        """Word a connection that ended before its time; what was sent may have arrived in part."""
        error = RemoteError(
            f"The connection to {self._shown} was cut: {reason}. {_KEPT}",
            hint=self._again,
            ref=self._shown,
        )
        error.interrupted = True
        return error

    def unreachable(self, error: Exception) -> RemoteError:
        """Word that there is no connection."""
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return RemoteError(
                f"{self._shown} shows a certificate that is not trusted here.",
                hint="export SSL_CERT_FILE=/path/to/your/authority.pem",
                ref=self._shown,
            )
        if "WRONG_VERSION_NUMBER" in text:
            return RemoteError(
                f"{self._shown} does not speak TLS, so that everything would be sent in clear.",
                hint=f"hold push NAME {SCHEMES[1]}://{self._place.host}/…  # on a trusted network",
                ref=self._shown,
            )
        if "Connect" not in type(error).__name__:
            return self.cut(why(error))
        away = RemoteError(
            f"{self._shown} {why(error).removeprefix('it ')}. {_KEPT}",
            hint=self._again,
            ref=self._shown,
        )
        away.interrupted = True
        return away

    def refusal(self, method: str, answer: Answer, *, known: bool, tried: bool) -> HoldfastError:
        """Word an answer that is not the one wanted.

        Args:
            method: Of the request.
            answer: The answer, of whose body a part may be missing.
            known: Whether there are credentials for this registry.
            tried: Whether it was asked several times.
        """
        status, where = answer.status, self._place.of_repository
        said = " ".join([str(status), *answer.codes()])
        if status in (401, 403):
            which = "these credentials" if known else "a client without credentials"
            return RemoteError(
                f"{where} refuses {which} for what is asked: it says {said}.",
                hint=f"docker login {self._place.host}  # or skopeo login",
                ref=where,
            )
        if status == 507:
            return NoSpace(f"{where} takes no more bytes: it says {said}.", hint=self._again)
        later = ", though it was asked several times" if tried else ""
        if tried and (wait := seconds_to_wait(answer.headers)) > LONGEST_WAIT:
            later = f", and wants to be left alone for {wait:.0f} seconds"
        return RemoteError(
            f"{where} did not do what was asked ({method}): it says {said}{later}. {_KEPT}",
            hint=self._again,
            ref=where,
        )


def seconds_to_wait(headers: Mapping[str, str]) -> float:
    """Return how many seconds a registry asks to wait, by ``Retry-After``."""
    text = headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def why(error: Exception) -> str:
    """Say in words how a connection failed."""
    kind = type(error).__name__
    if "Timeout" in kind:
        return "it does not answer in time"
    return "it cannot be reached" if "Connect" in kind else "it ended in the middle"


def is_untrusted(error: Exception) -> bool:
    """Say whether TLS failed, which no repetition heals."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error) or "WRONG_VERSION_NUMBER" in str(error)

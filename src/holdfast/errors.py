"""Every error Holdfast raises, in one tree.

::

    HoldfastError                      failed                1
    ├── UsageError (ValueError)        usage                 2
    │   └── SignatureMismatch          signature_mismatch    2   inputs are not the model's inputs
    ├── Unsupported (TypeError)        unsupported           1   this object cannot be kept as it is
    ├── NotFound (LookupError)         not_found             5
    ├── NoStore                        no_store             10
    ├── Conflict                       conflict              8   somebody else was first
    ├── NoSpace                        no_space             11
    ├── RemoteError                    remote                9
    ├── PartlyDone                     partly_done           3   the rest was done, and is told
    ├── UnsafeContent                  unsafe_content        6   refused without running anything
    │   └── SecretFound                secret_found          6
    ├── EnvironmentMismatch            environment_mismatch  7   this environment cannot load it
    │   └── MissingExtra (ImportError) missing_extra         7
    └── VerificationError              verification          4   it is not what was saved
        ├── Corrupt (ValueError)       corrupt               4   bytes or structure are damaged
        ├── BehaviourMismatch          behaviour_mismatch    4   the golden outputs differ
        └── PartialLoad                partial_load          4   tensors do not match the target

The second column is the stable machine code, the third the command's exit code. Classes are
grouped by what a handler would do next. Every message says what and where; ``hint`` is one
command, or a line or two of code, that can be run next.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BehaviourMismatch",
    "Conflict",
    "Corrupt",
    "EnvironmentMismatch",
    "HoldfastError",
    "MissingExtra",
    "NoSpace",
    "NoStore",
    "NotFound",
    "PartialLoad",
    "PartlyDone",
    "RemoteError",
    "SecretFound",
    "SignatureMismatch",
    "UnsafeContent",
    "Unsupported",
    "UsageError",
    "VerificationError",
]


class HoldfastError(Exception):
    """Base of all errors.

    Attributes:
        code: Stable machine-readable name of the error's kind.
        exit_code: Exit status of the command line for it.
        message: What happened and where, without the hint.
        hint: One runnable next step, of at most two lines; the class's usual one where the place
            knows no better.
        ref: The reference, path or digest it is about, or None.
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    usual_hint: ClassVar[str] = "hold --help"

    def __init__(self, message: str, *, hint: str | None = None, ref: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint
        self.ref = ref

    def __str__(self) -> str:
        return "\n".join([self.message, *self.hint_lines()])

    def hint_lines(self) -> list[str]:
        """Return the lines that show the hint, the first after ``Try:`` and the next below it."""
        first, *rest = self.hint.splitlines()
        return [f"Try: {first}", *(f"     {line}" for line in rest)]


class UsageError(HoldfastError, ValueError):
    """An argument is not usable."""

    code = "usage"
    exit_code = 2
    usual_hint = 'python -c "import holdfast; help(holdfast)"'


class SignatureMismatch(UsageError):
    """Inputs are not the inputs the model was saved with."""

    code = "signature_mismatch"


class Unsupported(HoldfastError, TypeError):
    """An object cannot be kept as it is; the message names the path to the attribute."""

    code = "unsupported"


class NotFound(HoldfastError, LookupError):
    """A model, version, alias or blob does not exist."""

    code = "not_found"
    exit_code = 5
    usual_hint = "hold ls"


class NoStore(HoldfastError):
    """There is no store where one was expected."""

    code = "no_store"
    exit_code = 10


class Conflict(HoldfastError):
    """Somebody else changed the same thing first; nothing was written."""

    code = "conflict"
    exit_code = 8


class NoSpace(HoldfastError):
    """The disk or quota is full; nothing visible was changed."""

    code = "no_space"
    exit_code = 11


class RemoteError(HoldfastError):
    """A remote store did not answer as expected.

    Attributes:
        interrupted: Whether a connection ended before its time, so that the same may be tried
            again at once and goes on from there.
    """

    code = "remote"
    exit_code = 9
    interrupted = False


class PartlyDone(HoldfastError):
    """Some of several things were done, and some were not."""

    code = "partly_done"
    exit_code = 3


class UnsafeContent(HoldfastError):
    """A file could run code if it were opened; it was not opened."""

    code = "unsafe_content"
    exit_code = 6


class SecretFound(UnsafeContent):
    """A value that looks like a credential would have been stored."""

    code = "secret_found"


class EnvironmentMismatch(HoldfastError):
    """This environment cannot load the version."""

    code = "environment_mismatch"
    exit_code = 7


class MissingExtra(EnvironmentMismatch, ImportError):
    """A framework's package is not installed here."""

    code = "missing_extra"


class VerificationError(HoldfastError):
    """What was read is not what was saved."""

    code = "verification"
    exit_code = 4


class Corrupt(VerificationError, ValueError):
    """Bytes, structure or history are damaged or forged."""

    code = "corrupt"
    usual_hint = "hold verify --no-replay"


class BehaviourMismatch(VerificationError):
    """The golden outputs recorded at save are not what the model answers now."""

    code = "behaviour_mismatch"


class PartialLoad(VerificationError):
    """Stored tensors and the target's tensors do not match one to one; nothing was changed."""

    code = "partial_load"

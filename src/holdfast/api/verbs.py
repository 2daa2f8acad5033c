"""The one-call verbs that load: ``load``, ``predict`` and ``register``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from holdfast import frameworks
from holdfast.api.history import get
from holdfast.api.store import Store

__all__ = ["load", "predict", "register"]

StoreLike = Store | str | os.PathLike[str] | None
Class = TypeVar("Class", bound=type)


def load(  # noqa: PLR0913 - the public face, DESIGN section 6
    ref: str,
    *,
    into: Any = None,
    store: StoreLike = None,
    device: str = "auto",
    verify: str = "auto",
    replay: str = "auto",
    rename: str | None = None,
    environment: str = "auto",
) -> Any:
    """Return the model of a version, as the type it was saved as, proven.

    Bytes are compared with their digests and the golden set is replayed in this environment; a
    model that does not pass is refused. What was proven is logged at level INFO to the logger
    ``holdfast``; ``get(ref).load_proven()`` returns it.

    Args:
        ref: ``name`` (the newest), ``name@v3``, ``name@alias`` or ``name@sha256:…``; or one of
            these in a bundle, ``path/file.hold:name@v3``.
        into: An instance of the user's own module class that receives the state.
        store: Store or path; default: the store in force.
        device: ``"auto"``: the device it was saved from if there is one here, else the CPU; or a
            device name of the framework. PyTorch's tensors go to another device one by one, so
            that this machine's memory never holds them all.
        verify: ``"auto"`` hashes unless an unchanged file was hashed before on this machine;
            ``"always"``; ``"never"`` skips it and the result is unproved.
        replay: ``"auto"`` replays unless this environment passed before; ``"always"``;
            ``"never"`` skips it and the result is unproved.
        rename: ``"old->new"``: change this prefix of the stored tensor names.
        environment: ``"here"``: this process. ``"portable"``: its portable form, which onnxruntime
            runs. ``"recorded"``: a worker, a process of its own under the libraries that the
            version was saved with, which uv installs once. The latter two have the model's output
            methods. ``"auto"``: the first of these, in this order, that is there and is not
            refused; a warning to the logger ``holdfast`` tells when it is not the first.

    Raises:
        NotFound: No such version.
        Corrupt: The bytes are not what was saved.
        BehaviourMismatch: The model answers otherwise here.
        PartialLoad: Tensors do not match ``into`` one to one; nothing was changed.
        EnvironmentMismatch: A needed class or package is not here.
    """
    version = get(ref, store=store)
    return version.load(
        into=into,
        device=device,
        verify=verify,
        replay=replay,
        rename=rename,
        environment=environment,
    )


def predict(ref: str, inputs: Any, *, store: StoreLike = None, environment: str = "auto") -> Any:
    """Load a version and answer for checked inputs, with its threshold where it has one.

    See ``Predictor.predict``, and ``load`` for ``environment``.

    Raises:
        SignatureMismatch: The inputs are not the model's.
        Anything ``load`` raises.
    """
    return get(ref, store=store).predictor(environment=environment).predict(inputs)


def register(
    cls: Class,
    *,
    name: str | None = None,
    arguments: Callable[[Any], Mapping[str, Any]] | None = None,
) -> Class:
    """Let instances of a class of yours be saved and built; usable as a decorator.

    The same call is needed where the model is loaded: code never comes from the file. A package
    can spare its users the call by the entry point group ``holdfast.types``.

    Args:
        cls: A ``torch.nn.Module`` subclass, an enumeration, a ``NamedTuple``, or a class whose
            instances are their ``__dict__``.
        name: Name in files; default: the class's module and name.
        arguments: For modules: instance to constructor arguments. Default: the attributes that
            carry the constructor's parameter names.

    Raises:
        UsageError: The name is taken by another class, or instances are more than their
            ``__dict__``.
    """
    frameworks.register(cls, name=name, arguments=arguments)
    return cls

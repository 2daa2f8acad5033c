"""Many independent pieces of work given to an executor of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, as_completed
from typing import TypeVar

from holdfast.errors import HoldfastError, UsageError

__all__ = ["as_done", "require_executor"]

Result = TypeVar("Result")


def require_executor(executor: object) -> None:
    """Raise ``UsageError`` for what is no ``concurrent.futures.Executor``."""
    if not isinstance(executor, Executor):
        raise UsageError(
            f"executor= takes a concurrent.futures.Executor, not {type(executor).__name__}.",
            hint="executor = concurrent.futures.ProcessPoolExecutor(4)",
        )


def as_done(
    executor: Executor, function: Callable[..., Result], calls: Iterable[tuple[object, ...]]
) -> Iterator[Result]:
    """Yield what a function returns for each of some calls, as they end.

    What has not begun is dropped when the caller stops listening, by an interruption for example.

    Args:
        executor: Where the function runs: threads, processes, or machines.
        function: A function of a module, so that it can be sent there.
        calls: Its arguments; they are pickled where it runs in another process.

    Raises:
        UsageError: ``executor`` is none.
        HoldfastError: Its workers died; or what the function raised.
    """
    require_executor(executor)
    tasks = [executor.submit(function, *call) for call in calls]
    try:
        for task in as_completed(tasks):
            yield task.result()
    except BrokenExecutor as error:
        raise HoldfastError(
            f"The executor's workers died: {error!s:.200} What they had done is kept.",
            hint='if __name__ == "__main__":  # a script that starts processes needs this line',
        ) from error
    finally:
        for task in tasks:
            task.cancel()

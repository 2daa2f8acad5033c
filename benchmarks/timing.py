"""Timing that alternates the sides, and one table: ours, the peer, the ratio, the target."""

import os
import statistics
import threading
import time
from pathlib import Path
from typing import NamedTuple


class Sample(NamedTuple):
    """Seconds of one run; ``cpu`` is user and system time of the process, all threads."""

    wall: float
    cpu: float


class Row(NamedTuple):
    """A line of the table; ``met`` is None where there is no target, only a fact."""

    what: str
    ours: str
    peer: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None


def timed(action):
    """Return (result, seconds)."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = action()
    return result, Sample(time.perf_counter() - wall, time.process_time() - cpu)


def alternate(actions, rounds):
    """Run every action once per round, so that a busy machine is busy for all of them.

    Every second round goes the other way round, so that nobody is always the first.

    Args:
        actions: Name to a callable that returns the seconds of what it measures.
        rounds: How often.

    Returns:
        Name to samples.
    """
    samples = {name: [] for name in actions}
    for number in range(rounds):
        for name in list(actions)[:: -1 if number % 2 else 1]:
            samples[name].append(actions[name]())
    return samples


def whole(action):
    """Return an action for ``alternate`` that is measured from its start to its end."""
    return lambda: timed(action)[1]


def least(samples, clock="cpu"):
    return min(getattr(sample, clock) for sample in samples)


def middle(samples, clock="cpu"):
    return statistics.median(getattr(sample, clock) for sample in samples)


def ms(samples, clock="cpu"):
    return f"{least(samples, clock) * 1e3:.1f} ({middle(samples, clock) * 1e3:.1f}) ms"


def compared(what, ours, peer, *, most=None, clock="cpu"):
    """Return the row of two lists of samples; the least of each is judged."""
    ratio = least(ours, clock) / least(peer, clock)
    between = middle(ours, clock) / middle(peer, clock)
    return Row(
        f"{what}, {clock}",
        ms(ours, clock),
        ms(peer, clock),
        f"{ratio:.2f} ({between:.2f})",
        "" if most is None else f"<= {most}",
        None if most is None else ratio <= most,
    )


def under(what, ours, most_ms, *, clock="wall"):
    """Return the row of samples that must stay under a number of milliseconds."""
    return Row(
        f"{what}, {clock}",
        ms(ours, clock),
        target=f"<= {most_ms} ms",
        met=least(ours, clock) * 1e3 <= most_ms,
    )


def at_most(what, amount, most, unit, peer=None):
    """Return the row of an amount that must stay under a limit."""
    return Row(
        what,
        f"{amount:,.2f} {unit}",
        "" if peer is None else f"{peer:,.2f} {unit}",
        "" if peer is None else f"{amount / peer:.3f}",
        f"<= {most:,} {unit}",
        amount <= most,
    )


def show(title, rows):
    """Print the rows as one table, and what else the machine did."""
    words = {True: "yes", False: "NO", None: ""}
    table = [("", "holdfast", "peer", "ratio", "target", "met")]
    table += [(*row[:5], words[row.met]) for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(6)]
    print(f"\n{title}")
    print("least (median); the least is judged")
    for line in table:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *cells]).rstrip())
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores; load average of the last 1, 5, 15 minutes: {load}")


class AnonymousPeak:
    """The most anonymous memory of this process while the block ran, above its start."""

    def __enter__(self):
        self.start = self.peak = _anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    @property
    def extra(self):
        return self.peak - self.start

    def _watch(self):
        while not self._done.wait(0.002):
            self.peak = max(self.peak, _anonymous())


def _anonymous():
    """Return the RssAnon of this process in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon")

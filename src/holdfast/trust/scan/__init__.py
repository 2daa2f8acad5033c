"""Saying what a foreign file is, what it would run and whether it can be taken over; never running.

A scan describes. It never calls a file safe because nothing bad was found: what is not known to be
data is named.
"""

from holdfast.trust.scan.paths import scan_path

__all__ = ["scan_path"]

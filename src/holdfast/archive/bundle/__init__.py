"""Versions in one file: an OCI image layout in an uncompressed tar, read where it lies."""

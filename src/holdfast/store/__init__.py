"""Bytes by digest, written once."""

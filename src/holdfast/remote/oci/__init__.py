"""Registries of containers: places, credentials, requests, blobs and manifests."""

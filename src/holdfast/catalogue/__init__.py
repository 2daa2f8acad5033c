"""Names, versions and their history: a log of create-only entries, and an index over it."""

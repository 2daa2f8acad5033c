"""The verbs; the only room where the rooms meet."""

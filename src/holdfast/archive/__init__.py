"""Models to bytes and back: layout, writing, reading, the golden set and its comparison."""

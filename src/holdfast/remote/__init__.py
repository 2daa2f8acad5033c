"""Object storage as the rest sees it: keys, bytes, create-only puts, and one kind of error."""

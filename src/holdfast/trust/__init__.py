"""What may not be stored or opened: credentials and files that could run code."""

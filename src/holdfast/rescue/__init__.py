"""Foreign files taken over as data: nothing in them is run, imported or looked up by name."""

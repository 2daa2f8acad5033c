"""The command line: one module per group of verbs, loaded when one of them is used."""

"""Commands, one module each; how the work is done is not known here."""

"""HTTP: one file a dialect, one intake, one place for errors. Tensors and workers are not known here."""

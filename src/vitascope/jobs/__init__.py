"""Jobs: what was asked, how far it is, what came of it. No tensors and no HTTP here."""

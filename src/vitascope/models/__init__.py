"""Model families: a folder each, all behind `family.Family`; none imports another."""

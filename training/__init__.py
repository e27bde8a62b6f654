"""Train a small Wan-style video model from scratch: data, networks, evaluation and export."""

"""A model's files, from the hub or a folder, and the networks made of them; knows no family."""

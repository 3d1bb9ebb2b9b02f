"""Losses that runs sample: of language models, of modules on inputs and targets, of functions."""

"""Bayesian influence functions and what is derived from them."""

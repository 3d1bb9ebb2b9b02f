"""Steppers: ways to compute a step of all chains, each with the numbers of the reference."""

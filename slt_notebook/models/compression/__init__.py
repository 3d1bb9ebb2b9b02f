"""Compression schemes as pure functions of parameters."""

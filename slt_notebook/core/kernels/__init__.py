"""Transition kernels and their diagonal metrics."""

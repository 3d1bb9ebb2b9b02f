"""Estimates for one component of a model: refined LLC, susceptibility, clusters."""

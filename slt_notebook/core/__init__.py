"""Torch only: positions, potentials, kernels, metrics, streams and the sampler loop.

Nothing here uses files, xarray or Hugging Face.  The chain axis is always first.
"""

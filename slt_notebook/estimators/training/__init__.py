"""Estimates over the checkpoints of a training."""

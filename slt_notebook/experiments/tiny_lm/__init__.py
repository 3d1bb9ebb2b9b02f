"""The packaged model `tiny-lm`: training, stages, heads, influence."""

"""Local learning coefficients and model selection."""

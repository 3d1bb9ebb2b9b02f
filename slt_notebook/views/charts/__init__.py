"""Charts and chart widgets."""

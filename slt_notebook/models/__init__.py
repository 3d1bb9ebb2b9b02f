"""From models to losses: torch and transformers, no files but models and no xarray."""

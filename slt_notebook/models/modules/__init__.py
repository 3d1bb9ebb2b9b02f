"""Modules that users bring: found inside wrappers, copied, and watched while they are tried."""

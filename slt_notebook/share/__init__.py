"""Offline pages of notebooks and widgets, and the tutorials."""

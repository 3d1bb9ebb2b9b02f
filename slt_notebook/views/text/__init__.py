"""Views of tokens in their text."""

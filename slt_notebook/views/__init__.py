"""Views of runs and estimates: widgets, Altair charts, and HTML without scripts."""

"""Estimators: functions of a run, or of several, that return labelled results; no torch."""

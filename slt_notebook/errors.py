"""Exceptions, each message with what was given, what was expected, and what to do."""

import difflib
from collections.abc import Iterable


class SLTError(Exception):
    """Base of every error that the kit raises on purpose."""


class InputError(SLTError, ValueError):
    """A value that cannot be used: shape, range, type, missing or unknown name."""


class ComponentError(InputError):
    """A component that the model does not have."""


class StoreError(SLTError, OSError):
    """A store that cannot be read or written."""


class StoreMismatch(StoreError, ValueError):
    """A store that holds a run with other settings than the ones that were asked for."""


class NotReproducible(SLTError, RuntimeError):
    """A model whose losses differ between two evaluations of one input."""


class OutOfMemory(SLTError, MemoryError):
    """An evaluation that does not fit in memory even one example at a time."""


class Diverged(SLTError, RuntimeError):
    """No chain of a run is left to estimate from."""


class SLTWarning(UserWarning):
    """Something that a user should know of a run that goes on all the same."""


def say(got: str, expected: str, do: str) -> str:
    """Return one message in the kit's pattern.

    >>> say("draws=0", "at least 1", "pass draws=200")
    'got draws=0; expected at least 1. What to do: pass draws=200.'
    """
    return f"got {got}; expected {expected}. What to do: {do}."


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return ` (did you mean ...?)` for the known names nearest to `name`, or nothing.

    >>> nearest("l0.h9", ["l0.h1", "embed"])
    " (did you mean 'l0.h1'?)"
    """
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=count, cutoff=0.5)
    return f" (did you mean {' or '.join(repr(c) for c in close)}?)" if close else ""

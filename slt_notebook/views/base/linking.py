"""`Focus`: the token that linked views share.

Views hold a reference to a Focus, and the browser does the linking: it lives on in an exported page
where there is no Python.  Keys are ids, `{"example": "train/0", "token": 17}`, never row numbers.
"""

from typing import Any

import traitlets

from slt_notebook.errors import InputError, say
from slt_notebook.views.base.widget import Model, View


def place(example: Any, token: int) -> dict:
    """Return the key of one token: `{"example": id, "token": index of the predicted token}`."""
    return {"example": str(example), "token": int(token)}


class Focus(Model):
    """What linked views share: a focused token, pinned ones, a range, and a component.

    Where the pointer hovers is shared between the views in the browser only: it is neither saved
    nor sent to Python.

    Args:
        focus: `{"example": id, "token": int}` or None.
        pins: a list of such.
        range: `{"example": id, "tokens": [first, past the last]}` or None.
        component: such as "l0.h3", or None.
    """

    _bundle = "focus"
    focus: Any = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    pins = traitlets.List(traitlets.Dict()).tag(sync=True)
    range = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    component = traitlets.Unicode(allow_none=True, default_value=None).tag(sync=True)

    def on(self, example: Any, token: int) -> "Focus":
        """Look at one token."""
        self.focus = place(example, token)
        return self

    def clear(self) -> "Focus":
        """Look at nothing, keep nothing."""
        self.focus, self.pins, self.range, self.component = None, [], None, None
        return self

    def __repr__(self) -> str:
        return f"Focus(focus={self.focus}, pins={len(self.pins)}, range={self.range})"


def link(*views: View, focus: Focus | None = None) -> Focus:
    """Make `views` share one Focus: the given one, else that of the first view; returned.

    Raises:
        InputError: Anything that is not a view.
    """
    for view in views:
        if not isinstance(view, View):
            raise InputError(
                say(type(view).__name__, "views such as TokenStrip", "call link(strip, explorer)")
            )
    shared = focus or next((v.focus for v in views if v.focus is not None), None) or Focus()
    for view in views:
        view.focus = shared
    return shared

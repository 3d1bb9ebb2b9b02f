"""Scores of the heads of `tiny-lm` that need no sampling."""

import json

import pandas as pd

from slt_notebook.models.load import PACKAGED


def attention_scores() -> pd.DataFrame:
    """Return each head's attention to the previous token, and to what followed before (induction).

    Measured on held-out text, at the last checkpoint; see the model card.
    """
    table = json.loads((PACKAGED / "tiny-lm" / "stages.json").read_text(encoding="utf-8"))
    last = table["checkpoints"][-1]
    rows = {
        f"l{layer}.h{head}": {"previous token": before, "induction": last["induction"][layer][head]}
        for layer, scores in enumerate(last["previous_token"])
        for head, before in enumerate(scores)
    }
    return pd.DataFrame(rows).T

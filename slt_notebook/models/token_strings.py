"""What tokens show: the text that each adds, as people write it."""

import re
from typing import Any


def strings_of(tokenizer: Any, ids: list[int]) -> dict[int, str]:
    """Return what each token shows; its number, where there is no tokenizer."""
    if tokenizer is None:
        return {i: f"⟨{i}⟩" for i in ids}
    return {i: token_string(tokenizer, i) for i in ids}


def _byte_decoder() -> dict[str, int]:
    """Return the printable characters that stand for bytes in a byte-level BPE (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    table = {chr(b): b for b in plain}
    return table | {chr(256 + i): b for i, b in enumerate(rest)}


_BYTES = _byte_decoder()


def token_string(tokenizer: Any, token_id: int) -> str:
    """Return what one token adds to the text, space included.

    Bytes that are no character by themselves are shown as `⟨E2 80⟩`; special tokens by their names.
    """
    token = tokenizer.convert_ids_to_tokens(int(token_id))
    if token is None:
        return f"⟨{token_id}⟩"
    # Added tokens are kept as people wrote them, also in tokenizers that write bytes as letters.
    added = int(token_id) in getattr(tokenizer, "added_tokens_decoder", {})
    if added or int(token_id) in tokenizer.all_special_ids:
        return readable(token)
    return readable(_decoded(tokenizer, token))


def readable(text: str) -> str:
    r"""Return a text that can be stored: halves of surrogate pairs are shown by their numbers.

    >>> readable("a\ud83d")
    'a⟨U+D83D⟩'
    """
    return _HALF_PAIR.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


_HALF_PAIR = re.compile("[\ud800-\udfff]")


def _decoded(tokenizer: Any, token: str) -> str:
    if token.startswith("<0x") and token.endswith(">") and len(token) == 6:
        return _show(bytes([int(token[3:5], 16)]))
    if all(c in _BYTES for c in token) and _byte_level(tokenizer):
        return _show(bytes(_BYTES[c] for c in token))
    if "▁" in token:
        return token.replace("▁", " ")
    return token.removeprefix("##") if token.startswith("##") and len(token) > 2 else token


def _byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and "ByteLevel" in repr(backend.decoder)


def _show(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "⟨" + raw.hex(" ").upper() + "⟩"

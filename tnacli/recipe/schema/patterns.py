"""The texts of a recipe that have to be of a certain form."""

from __future__ import annotations

NAME = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
RUN = NAME.removesuffix("$") + r"(\[[^\[\]]+\])?$"
"""Of a run: one that a sweep made has its values in brackets."""
DEVICE = r"^(auto|cpu|mps|cuda(:[0-9]+)?)$"
BUILD = r"^(.*/)?[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
_NAME = "a name of up to 64 lower-case letters, digits, '_', '-' and '.', beginning with a letter or digit"
PATTERNS = {
    NAME: _NAME,
    RUN: _NAME,
    DEVICE: "auto, cpu, mps, cuda, or cuda:1 and so on",
    BUILD: "a function that can be imported, written package.module:function, or folder/package.module:function",
}
"""What each pattern means, in words for the user."""

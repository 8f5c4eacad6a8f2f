"""Step formats: how steps are written for one kind of model.

`get_format(name)` returns one; `FORMATS` names them all: `chat` for instruct models, `rstar` for models fine-tuned on
the authors' step grammar.
"""

from __future__ import annotations

from rstar_eval.solver.formats.registry import FORMATS, get_format

__all__ = ["FORMATS", "get_format"]

"""`rstar-eval convert-ppm`: the authors' reward checkpoint in our form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert_ppm_command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder: a causal language model with value_head.bin.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the converted checkpoint.")],
) -> None:
    """Convert the rStar-Math authors' reward checkpoint to a sequence-classification one, for --reward ppm:OUT."""
    from rstar_eval.solver.reward.convert import convert_ppm

    typer.echo(f"wrote {convert_ppm(source, target)}; use it with --reward ppm:{target}")

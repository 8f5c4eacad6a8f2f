"""rstar-eval: measure mathematical reasoning with the rStar-Math solver (arXiv 2501.04519) inside.

The public names are loaded on first use, so that `import rstar_eval` and `rstar-eval --help` stay fast.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]

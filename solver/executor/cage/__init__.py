"""The side of the executor that runs inside the cage: zygote, worker, and the kernel layers around them.

This package is loaded by path into a bare interpreter, without rstar_eval and without site-packages, so its modules
import only the standard library and one another. Importing it from the harness is safe: nothing happens on import.
"""

from __future__ import annotations

"""The run: every stage trained, evaluated, exported and measured, and the cumulative table of all of them.

Only this package and `mobilevd/cli.py` know all other packages.
"""

from mobilevd.pipeline.run import cache, run, train_stage

__all__ = ["cache", "run", "train_stage"]

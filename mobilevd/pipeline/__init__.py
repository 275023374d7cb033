"""The main job: every stage trained, judged, exported and measured, and the cumulative table of it all.

With `mobilevd/cli.py` the only place that knows all rooms.
"""

from mobilevd.pipeline.run import cache, run, train_stage

__all__ = ["cache", "run", "train_stage"]

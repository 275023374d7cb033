"""`mobilevd run --dry-run`: every stage at its real size, without weights, if the base model is at hand."""

from __future__ import annotations

from mobilevd.config.schema import RunConfig


def check_plan(config: RunConfig) -> str:
    """Rehearse all stages; return a line that says so, or why it was not possible.

    Raises UserError, naming the key, for a stage that cannot be.
    """
    for key, place in (("base.model", config.base.model), ("base.codec", config.base.codec)):
        if not place.exists():
            return f"# sizes were not checked: {key}: {place} does not exist"
    from mobilevd.codecs.loading import spatial_factor_of  # only here: PyTorch takes seconds to import
    from mobilevd.transforms.rehearsal import rehearse_stages

    rehearse_stages(config, config.base.model, spatial_factor_of(config.base.codec))
    return f"# every stage fits {config.data.num_frames} frames at its size"

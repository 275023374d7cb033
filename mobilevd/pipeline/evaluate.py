"""Evaluation of one row: clips are generated from held-out first frames and compared with real clips.

All processes generate and embed, a batch each in turn. Clips are summarized as soon as they are made, and only those of the
contact sheet are kept, so memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from accelerate import PartialState
from torch import Tensor, nn

from eval.domain import outside_domain, share_outside
from eval.features import FeatureExtractor
from eval.protocol import evaluate_summaries, first_frame_fidelities
from eval.row_distances import RowFeatures, remarks_on, row_distances
from eval.samples import clip_wall, write_contact_sheet
from eval.summary import ClipSummary, join_summaries, summarize
from mobilevd.codecs.base import Codec
from mobilevd.collective import from_first, in_rounds, together
from mobilevd.config.schema import RunConfig
from mobilevd.diffusion.animate import Sampler, animate, make_sampler
from mobilevd.diffusion.sampling import frame_guidance, function_evaluations
from mobilevd.model.flops import count_flops
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.data import RunClips, read_clips, spread
from mobilevd.pipeline.held_out import identity_of, read_first_frame, reference_clips
from mobilevd.pipeline.processes import join_processes
from mobilevd.pipeline.reference import summarize_reference
from mobilevd.pipeline.row_features import write_features
from mobilevd.pipeline.rows import Entry
from mobilevd.pipeline.shown_clips import clear_shown, write_shown
from mobilevd.pixels import resize_frames
from mobilevd.report.clip_files import GENERATED, REAL
from training.data.clips import Clip
from training.data.video import write_video

SMALL_WIDTH = 256  # pixels of a clip that is shown enlarged


def guidance_of(config: RunConfig) -> Tensor:
    """Guidance scale per frame (T,)."""
    diffusion = config.diffusion
    return frame_guidance(config.data.num_frames, diffusion.guidance_min, diffusion.guidance_max)


def sampler_of(config: RunConfig, entry: Entry, unet: SpatioTemporalUNet) -> Sampler:
    """The sampler of an entry's model: one evaluation, or the multi-step sampler."""
    return make_sampler(unet, config.diffusion, config.data.num_frames, entry.one_step)


@dataclass(frozen=True)
class JudgedClips:
    """What an evaluation found.

    Attributes:
        figures: of the row.
        kept: features of the clips, to compare the row with others by.
        shown, real: the clips of the contact sheet, generated and real, uint8 (N, T, H, W, 3).
    """

    figures: dict[str, Any]
    kept: RowFeatures
    shown: np.ndarray
    real: np.ndarray


@dataclass
class Evaluator:
    """The summary of the real clips and the feature extractor that all rows are evaluated with.

    Every process has one, and all call its methods together; alone, there is one process.
    """

    config: RunConfig
    extractor: FeatureExtractor
    codec: Codec
    clips: RunClips
    reference: ClipSummary
    processes: PartialState

    @classmethod
    def of(
        cls,
        config: RunConfig,
        extractor: FeatureExtractor,
        codec: Codec,
        clips: RunClips,
        processes: PartialState | None = None,
        on_clips: Callable[[int], None] | None = None,
    ) -> Evaluator:
        """Summarize the real clips; `on_clips` is told how many are done. UserError if there are fewer than 2."""
        processes = processes or join_processes()
        chosen = together(processes, lambda: reference_clips(clips))
        reference = summarize_reference(config, chosen, extractor, processes, on_clips)
        return cls(config, extractor, codec, clips, reference, processes)

    @property
    def reference_identity(self) -> str:
        """SHA-256 of which clips are judged by: names of files and starts. A row judged by others is judged again."""
        listed = [identity_of(clip) for clip in reference_clips(self.clips)]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    def evaluate(self, entry: Entry, on_clips: Callable[[int], None]) -> dict[str, Any]:
        """Generate, compare, write features.npz, samples.mp4 and contact_sheet.png, and return the row's figures."""
        config = self.config
        unet = together(self.processes, lambda: SpatioTemporalUNet.from_pretrained(entry.model))
        cast(nn.Module, unet).to(next(self.codec.parameters()).device)
        judged = self.compare(entry, sampler_of(config, entry, unet), on_clips)
        from_first(self.processes, lambda: self._write(entry, judged))
        latent_size = self.codec.latent_size(entry.height, entry.width)
        count = count_flops(unet, config.data.num_frames, *latent_size)
        guidance = guidance_of(config)
        nfe = 1 if entry.one_step else function_evaluations(config.diffusion.num_steps, guidance)
        return {
            "nfe": nfe,
            **judged.figures,
            "parameters": count.parameters,
            "tflops": count.flops / 1e12,
            "flops_per_clip": count.flops * nfe,
            "height": entry.height,
            "width": entry.width,
            "temporal_blocks": len(unet.temporal_block_names()),
        }

    def compare(self, entry: Entry, sample: Sampler, on_clips: Callable[[int], None]) -> JudgedClips:
        """Generate from the held-out first frames, and compare; `on_clips` is told how many clips are done.

        Clip i's noise comes from the seed evaluation.seed + i, and that of the next set (`evaluation.seeds`) from the seeds
        after these. Batches are the same in any number of processes: so are the figures.
        """
        evaluation = self.config.evaluation
        chosen = spread(self.clips.test.clips, evaluation.clips)
        size = evaluation.batch_size
        batches = [(number, start) for number in range(evaluation.seeds) for start in range(0, len(chosen), size)]
        ends = np.cumsum([len(chosen[start : start + size]) for _, start in batches])

        def work(number: int) -> tuple[ClipSummary, np.ndarray]:
            of_set, start = batches[number]
            return self._generate(entry, sample, chosen[start : start + size], start, of_set)

        parts = in_rounds(self.processes, len(batches), work, lambda done: on_clips(int(ends[done - 1])))
        generated = join_summaries([summary for summary, _ in parts], "generated clips")
        figures, kept = from_first(self.processes, lambda: self._figures(generated))
        shown = np.concatenate([clips for _, clips in parts if len(clips)])
        real = from_first(
            self.processes, lambda: read_clips(self.config, chosen[: len(shown)], entry.height, entry.width)
        )
        return JudgedClips(figures, kept, shown, real)

    def _figures(self, generated: ClipSummary) -> tuple[dict[str, Any], RowFeatures]:
        """The figures of all sets of generated clips, and what is kept of them."""
        evaluation, sets = self.config.evaluation, self.config.evaluation.seeds
        figures = evaluate_summaries(generated, self.reference, self.extractor, fps=self.config.data.fps)
        features = generated.features.reshape(sets, len(generated) // sets, -1)
        distances, kept = row_distances(features, self.reference.features, evaluation.extrapolate, self.extractor.ddof)
        if sets > 1:
            figures["protocol"] |= {"generated_clips": features.shape[1], "noise_seeds": sets}
        outside = share_outside(self.extractor, generated.features)
        if outside is not None:
            figures["outside_domain"] = outside
        return {**figures, **distances}, kept

    def remarks(self) -> list[str]:
        """What the number and the kind of clips do to the distances, where it matters."""
        evaluation, (real, features) = self.config.evaluation, self.reference.features.shape
        clips = min(len(self.clips.test.clips), evaluation.clips)
        found = remarks_on(clips, real, features, self.extractor.distance_name, evaluation.extrapolate)
        strange = outside_domain(self.extractor, self.reference.features, "reference clips")
        return [*found, *([strange] if strange else [])]

    def _generate(
        self, entry: Entry, sample: Sampler, clips: list[Clip], start: int, of_set: int
    ) -> tuple[ClipSummary, np.ndarray]:
        """Generate a batch of a set, the first of it clip `start`: its summary, and those of its clips that are shown."""
        config, evaluation = self.config, self.config.evaluation
        first_frames = np.stack([read_first_frame(config, clip, entry.height, entry.width) for clip in clips])
        seeds = [evaluation.seed + of_set * evaluation.clips + start + i for i in range(len(clips))]
        precision = evaluation.mixed_precision
        generated = animate(sample, self.codec, first_frames, seeds, config.data, config.diffusion, precision)
        small = resize_frames(generated, evaluation.height, evaluation.width)
        conditions = resize_frames(first_frames, evaluation.height, evaluation.width)
        fidelities = first_frame_fidelities(small, conditions)
        shown = generated[: max(0, evaluation.sheet_clips - start) if of_set == 0 else 0].copy()
        names = [
            f"{entry.name}, clip {start + i} (seed {seed}, from {clip.video} at {clip.start_s:.2f} s)"
            for i, (seed, clip) in enumerate(zip(seeds, clips, strict=True))
        ]
        return summarize(small, self.extractor, fidelities, what="generated clips", names=names), shown

    def _write(self, entry: Entry, judged: JudgedClips) -> None:
        write_features(entry.folder, judged.kept)
        clear_shown(entry.folder)
        write_shown(entry.folder, GENERATED, judged.shown, self.config.data.fps)
        if entry.previous is None:  # the real clips are the same for all rows: once, at the base's size
            write_shown(entry.folder, REAL, judged.real, self.config.data.fps)
        rows, labels = [], []
        generated, real = judged.shown, judged.real
        for i, (ours, theirs) in enumerate(zip(generated, real, strict=True)):
            rows += [theirs, ours]
            labels += [f"real {i + 1}", f"{entry.label} {i + 1}"]
        small = rows[0].shape[2] <= SMALL_WIDTH
        write_contact_sheet(entry.folder / "contact_sheet.png", rows, labels, scale=3 if small else 1)
        wall = clip_wall([("real", real), (entry.label, generated)], SMALL_WIDTH)
        write_video(entry.folder / "samples.mp4", wall, self.config.data.fps)

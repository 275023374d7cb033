"""Train the small motion encoder that stands in for I3D at tiny scale.

    python -m training.tiny.motion_encoder --out FOLDER

The features are what linear heads need to answer two questions about a clip: how does it move (the flow in eight
directions in both halves of the clip; in what light and colours), and what is wrong with it (the strength of each of
nine kinds of damage). The heads are dropped afterwards. All targets come from pixels or from the damage that was done,
none from the renderer. Half of the clips are shapes on a still ground (`training.data.scenes`), half are textured layers
under a moving camera (`training.tiny.textured_scenes`), and light, contrast and colours of both are changed at random:
these are things to tell, and not damage. The scenes look the same played backwards, so reversal is no damage here but
another motion. One thread, a quarter of an hour, and the same weights for the same seed on the same machine.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.distortions import DISTORTIONS, ghost
from eval.motion_encoder import MOTION_ENCODER_FILES, MotionEncoder, MotionEncoderConfig, to_model_input
from mobilevd.errors import UserError
from mobilevd.pixels import to_float
from training.data.scenes import render_scene
from training.tiny.light import change_light
from training.tiny.output import check_option
from training.tiny.textured_scenes import render_textured

SEED_BASE = 10_000_000  # scenes of the corpora start at 0: nothing that is evaluated was trained on
FINE = 2  # pool frames per clip frame: half, single and one-and-a-half speed can be picked
DIRECTIONS = 8
KINDS = [*DISTORTIONS, "ghost"]
DOMAIN_SHARE = 0.999  # of the training mixture lies within the domain


@dataclass(frozen=True)
class MotionEncoderTrainingSettings:
    """The settings of training; the defaults made the shipped encoder."""

    scenes: int = 2400  # half of them textured
    steps: int = 2400
    batch_size: int = 32
    lr: float = 3e-3
    seed: int = 0
    balance_clips: int = 3072  # clips of the training mixture; a sixth as many undamaged scenes of shapes
    damaged_share: float = 0.7  # share of clips; the others teach the motion and what "nothing is wrong" looks like


def render_pool(config: MotionEncoderConfig, count: int, seed: int) -> Tensor:
    """Render scenes long enough for one clip forwards and one backwards from the middle: uint8 (count, F, 3, H, W)."""
    length = 2 * FINE * (config.num_frames - 1) + 1
    first = SEED_BASE + seed * 1_000_000
    pool = torch.empty(count, length, 3, config.height, config.width, dtype=torch.uint8)
    size = (length, config.height, config.width, config.fps * FINE)
    for i in range(count):
        shapes = i % 2 == 0
        pool[i] = (
            torch.from_numpy(render_scene(first + i, *size)).permute(0, 3, 1, 2)
            if shapes
            else render_textured(first + i, *size)
        )
    return pool


def _smooth(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of images (N, C, H, W)."""
    radius = round(2.5 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).reshape(1, 1, -1, 1)
    n, c, h, w = x.shape
    y = F.pad(x.reshape(n * c, 1, h, w), [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(y, kernel), kernel.transpose(2, 3)).reshape(n, c, h, w)


def flow_histogram(frames: Tensor) -> Tensor:
    """Flow between successive frames (F, 3, H, W) in [0, 1] by direction: (F - 1, 8), in pixels times area share.

    Lucas and Kanade's least squares over a Gaussian window, over all three colours; still regions count as zero.
    """
    x = _smooth(frames, 1.0)
    mean, change = (x[1:] + x[:-1]) / 2, x[1:] - x[:-1]
    gy, gx = torch.gradient(mean, dim=(2, 3))  # (F-1, 3, H, W)
    products = torch.stack([gx * gx, gx * gy, gy * gy, gx * change, gy * change], 1).sum(2)  # (F-1, 5, H, W)
    xx, xy, yy, xt, yt = _smooth(products, 2.0).unbind(1)
    xx, yy = xx + 1e-4, yy + 1e-4  # ridge: no flow where there is no structure
    determinant = xx * yy - xy * xy
    vx, vy = (xy * yt - yy * xt) / determinant, (xy * xt - xx * yt) / determinant
    angles = torch.arange(DIRECTIONS) * (2 * math.pi / DIRECTIONS)
    along = vx[:, None] * angles.cos().reshape(1, -1, 1, 1) + vy[:, None] * angles.sin().reshape(1, -1, 1, 1)
    return along.clamp(0, 6).mean((2, 3))  # 6 pixels per step: beyond any speed here, an outlier of the least squares


APPEARANCES = 13


def appearance(frames: Tensor) -> Tensor:
    """Frames (N, 3, H, W) in [0, 1] -> (N, 13): mean and deviation of each colour, share of bright pixels, and of those
    that are bright in each of six hue sectors."""
    high, low = frames.amax(1), frames.amin(1)
    bright = high > 0.6
    red, green, blue = frames.unbind(1)
    hue = torch.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue)  # (N, H, W)
    sector = ((hue / (2 * math.pi)) % 1 * 6).long().clamp(max=5)
    colourful = bright & (high - low > 0.2)
    shares = [(colourful & (sector == k)).float().mean((1, 2)) for k in range(6)]
    light = torch.cat([frames.mean((2, 3)), frames.std((2, 3))], 1)
    return torch.cat([light, torch.stack([bright.float().mean((1, 2)), *shares], 1)], 1)


class Batches:
    """Training batches drawn from a pool: augmented clips, and the targets of the heads."""

    def __init__(self, pool: Tensor, config: MotionEncoderConfig, train: MotionEncoderTrainingSettings) -> None:
        self.pool, self.num_frames, self.train = pool, config.num_frames, train
        self.generator = torch.Generator().manual_seed(train.seed)
        self.flow = torch.stack([flow_histogram(scene.float() / 255) for scene in pool])  # (S, F-1, 8)
        self.flow_scale = self.flow.mean() * FINE * (self.num_frames // 2)
        middle = change_light(to_float(pool[:, pool.shape[1] // 2]).unsqueeze(2), self.generator)  # (S, 3, 1, H, W)
        colour = appearance((middle[:, :, 0] + 1) / 2)
        self.colour_mean, self.colour_deviation = colour.mean(0), colour.std(0)

    def _int(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=self.generator))

    def _clip(self, scene: int) -> tuple[Tensor, Tensor, Tensor]:
        """One clip and another future of its first frame, both (T, 3, H, W); its halves' flow by direction (16,)."""
        last, steps = self.pool.shape[1] - 1, self.num_frames - 1
        speed = (1, 2, 2, 2, 2, 3)[self._int(0, 5)]
        forwards = self._int(0, 1) == 0
        other_fits = steps * speed * 2 <= last
        first = last // 2 if other_fits else self._int(steps * speed, last)
        if not other_fits and forwards:
            first = last - first
        sign = 1 if forwards else -1
        index = first + sign * speed * torch.arange(self.num_frames)
        # The same scene run the other way starts from the same picture; where it is too short, stand still instead.
        other = 2 * first - index if other_fits else index[:1].expand(self.num_frames)
        path = self.flow[scene, min(int(index[0]), int(index[-1])) : max(int(index[0]), int(index[-1]))]
        halves = torch.stack([part.sum(0) for part in path.chunk(2)])  # (2, 8)
        if not forwards:
            halves = halves.flip(0).roll(DIRECTIONS // 2, 1)
        frames = to_float(self.pool[scene])
        clip, twin = frames[index], frames[other]
        if self._int(0, 1):  # mirror left to right: directions k -> 4 - k
            clip, twin = clip.flip(3), twin.flip(3)
            halves = halves[:, (DIRECTIONS // 2 - torch.arange(DIRECTIONS)) % DIRECTIONS]
        if self._int(0, 1):  # and top to bottom: k -> -k
            clip, twin = clip.flip(2), twin.flip(2)
            halves = halves[:, (-torch.arange(DIRECTIONS)) % DIRECTIONS]
        return clip, twin, halves.flatten()

    def next(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Draw clips (N, 3, T, H, W), motion (N, 16), colours (N, 13), strengths (N, 9), 1 for defined motion (N,)."""
        n, g = self.train.batch_size, self.generator
        scenes = torch.randint(len(self.pool), (n,), generator=g)
        kinds = torch.randint(len(KINDS), (n,), generator=g)
        kinds[torch.rand(n, generator=g) > self.train.damaged_share] = -1
        drawn = [self._clip(int(s)) for s in scenes]
        both = torch.stack([torch.cat(d[:2]) for d in drawn]).transpose(1, 2)
        clips, twins = change_light(both, g).chunk(2, dim=2)
        clips = clips.contiguous()
        colour = appearance((clips[:, :, self.num_frames // 2] + 1) / 2)
        # Harmless differences: what a good codec and 8 bits do to a clip must not look like damage.
        clips = clips + 0.012 * torch.rand(n, 1, 1, 1, 1, generator=g) * torch.randn(clips.shape, generator=g)
        strength = torch.rand(n, generator=g).clamp(min=0.05)
        strengths = torch.zeros(n, len(KINDS))
        for k, name in enumerate(KINDS):
            rows = (kinds == k).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            s = strength[rows]
            if name == "ghost":
                clips[rows] = ghost(clips[rows], twins[rows], s)
            else:
                clips[rows] = DISTORTIONS[name](clips[rows], s, g)
            strengths[rows, k] = s
        motion = torch.stack([d[2] for d in drawn]) / self.flow_scale
        changes_motion = torch.tensor([KINDS.index(k) for k in ("shuffle", "freeze", "stutter", "ghost", "warp")])
        defined = ~torch.isin(kinds, changes_motion)
        colour = (colour - self.colour_mean) / self.colour_deviation
        return clips.clamp(-1, 1), motion, colour, strengths, defined.float()


def train_encoder(
    config: MotionEncoderConfig, train: MotionEncoderTrainingSettings, quiet: bool = False
) -> tuple[MotionEncoder, dict[str, float]]:
    """Train on freshly rendered scenes; return the encoder with balanced features, and its final losses."""
    started = time.monotonic()
    torch.manual_seed(train.seed)
    encoder = MotionEncoder(config).train()
    heads = nn.Linear(config.feature_dim, 2 * DIRECTIONS + APPEARANCES + len(KINDS))
    batches = Batches(render_pool(config, train.scenes, train.seed), config, train)
    if not quiet:
        print(f"{train.scenes} scenes rendered in {time.monotonic() - started:.0f} s", flush=True)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=train.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, train.lr, total_steps=train.steps, pct_start=0.1)
    averages: dict[str, float] = {}
    for step in range(train.steps):
        clips, motion, colour, strengths, defined = batches.next()
        said = heads(encoder.bounded_features(clips)).split([2 * DIRECTIONS, APPEARANCES, len(KINDS)], dim=1)
        losses = {
            "motion": ((said[0] - motion).square().mean(1) * defined).sum() / defined.sum().clamp(min=1),
            "colour": (said[1] - colour).square().mean(),
            # Nine outputs of which at most one is not 0, with a variance of about 1/40 each.
            "damage": 40 * (said[2] - strengths).square().mean(),
        }
        loss = losses["motion"] + 0.2 * losses["colour"] + losses["damage"]
        if not torch.isfinite(loss):
            raise UserError(f"step {step}: the loss is {loss.item()}; a lower --lr would be right")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        for name, value in losses.items():
            now = float(value.detach())
            averages[name] = 0.98 * averages.get(name, now) + 0.02 * now
        if not quiet and (step + 1) % 100 == 0:
            text = "  ".join(f"{name} {value:.4f}" for name, value in averages.items())
            print(f"step {step + 1}/{train.steps}  {text}  {time.monotonic() - started:.0f} s", flush=True)
    balance(encoder.eval(), batches)
    return encoder, averages


@torch.no_grad()
def balance(encoder: MotionEncoder, batches: Batches) -> None:
    """Whiten the features over clips of all kinds, damaged ones too, then make their mean variance over real clips 1.

    Standardized over real clips alone, a feature that says "frozen" has next to no deviation, so a frozen clip would be
    dozens of deviations off and outweigh all else. Over the training mixture every kind of damage, and the motion,
    counts equally. The mixture is the domain, too: clips that are stranger than it are told.
    """
    config = encoder.config
    train, count = batches.train, batches.train.balance_clips
    mixture = torch.cat([encoder.bounded_features(batches.next()[0]) for _ in range(count // train.batch_size)])
    variances, axes = torch.linalg.eigh(mixture.double().T.cov())
    # Directions that hardly vary at all are noise of the features themselves: the ridge keeps them small.
    whiten = axes @ torch.diag((variances + 0.02 * variances.mean()).rsqrt()) @ axes.T
    first = SEED_BASE + train.seed * 1_000_000 + 500_000  # real clips that were not trained on
    size = (config.num_frames, config.height, config.width, config.fps)
    real = [render_scene(first + i, *size) for i in range(count // 6)]
    x = to_model_input(np.stack(real), config.height, config.width)
    features = torch.cat([encoder.bounded_features(part) for part in x.split(32)]).double()
    encoder.feature_mean.copy_(features.mean(0))
    encoder.feature_map.copy_(whiten / (features @ whiten).var(0).mean().sqrt())
    known = (mixture - encoder.feature_mean) @ encoder.feature_map
    encoder.domain_mean.copy_(known.mean(0))
    encoder.domain_deviation.copy_(known.std(0))
    encoder.domain_limit.copy_(encoder.strangeness(known).quantile(DOMAIN_SHARE))


def main() -> None:
    defaults = MotionEncoderTrainingSettings()
    parser = argparse.ArgumentParser(
        prog="python -m training.tiny.motion_encoder", description="Train the motion encoder."
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for model.safetensors and config.json")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--scenes", type=int, default=defaults.scenes)
    parser.add_argument("--lr", type=float, default=defaults.lr)
    arguments = parser.parse_args()
    check_option(parser, arguments.out, MOTION_ENCODER_FILES)
    torch.set_num_threads(1)  # the order of a sum then never depends on the number of cores
    train = MotionEncoderTrainingSettings(
        seed=arguments.seed, steps=arguments.steps, scenes=arguments.scenes, lr=arguments.lr
    )
    encoder, losses = train_encoder(MotionEncoderConfig(), train)
    encoder.save(arguments.out)
    count = sum(p.numel() for p in encoder.parameters())
    print(f"{arguments.out}: {count} parameters, final losses {', '.join(f'{k} {v:.4f}' for k, v in losses.items())}")


if __name__ == "__main__":
    main()

"""Named protocols of a distance between sets of clips: what turns pixels into the number, as data.

A number called FVD says little without its protocol: which weights, how frames were resized, over how many clips, with
which covariance. `eval/protocols/` holds those that the literature uses, each equal to what it is named after; a path
to a YAML file of the same keys is one's own.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from mobilevd.config.base import ConfigModel
from mobilevd.errors import UserError

FOLDER = Path(__file__).parent / "protocols"
NETWORKS = Literal["i3d-torchscript", "i3d", "videomae-v2-giant-ssv2", "v-jepa-huge-ssv2", "motion-encoder"]
PLACES_IN_A_LINE = ("value", "generated", "real", "frames", "rate", "size", "version")
LARGEST_FILE = 64_000  # bytes; a protocol is a page


class ResizeSettings(ConfigModel):
    """How frames come to the size that the network sees (`eval.preprocessing`)."""

    kind: Literal["network", "native", "stretch", "short-side", "tf1-stretch"] = Field(
        description="network: inside the network or its file; native: not at all; stretch: bilinear at half-pixel "
        "centres to a square; short-side: the same to the short side, then a centred square; tf1-stretch: TensorFlow 1's "
        "bilinear without half-pixel centres, to a square"
    )
    size: int | None = Field(default=None, ge=1, description="side in pixels; null where kind is network or native")

    @model_validator(mode="after")
    def _size_where_one_is_needed(self) -> ResizeSettings:
        if (self.size is None) != (self.kind in ("network", "native")):
            raise ValueError(f"a size is for stretch, short-side and tf1-stretch, and {self.kind} got {self.size}")
        return self


class FrechetSettings(ConfigModel):
    """The Frechet distance between the Gaussians that are fitted to two sets of features."""

    kind: Literal["frechet"]
    ddof: Literal[0, 1] = Field(description="the covariance is over n - ddof samples")
    method: Literal["exact", "svd"] = Field(
        default="exact", description="exact: without a matrix square root; svd: tfgan's and VideoGPT's roots"
    )
    dtype: Literal["float64", "float32"] = Field(default="float64", description="precision of the svd method")
    first: Literal["real", "generated"] = Field(
        default="generated", description="the set whose covariance is rooted first; only rounding tells them apart"
    )

    @model_validator(mode="after")
    def _exact_is_float64(self) -> FrechetSettings:
        if self.method == "exact" and self.dtype != "float64":
            raise ValueError("the exact method computes in float64; float32 is for svd")
        return self


class MmdSettings(ConfigModel):
    """The squared maximum mean discrepancy under a polynomial kernel `(gamma a.b + coef0)^degree`."""

    kind: Literal["mmd"]
    degree: int = Field(ge=1, description="exponent of the kernel")
    gamma: float | None = Field(default=None, gt=0, description="factor of the inner product; null is 1/features")
    coef0: float = Field(description="constant of the kernel")
    biased: bool = Field(description="whether the pairs of a sample with itself count")
    scale: float = Field(default=1.0, gt=0, description="the figure is this many times the squared MMD")

    @property
    def kernel(self) -> dict[str, Any]:
        """The options of `eval.distances.mmd`."""
        return self.model_dump(include={"degree", "gamma", "coef0", "biased"})


class ClipCounts(ConfigModel):
    """How many clips the protocol compares; null where it does not say."""

    real: int | None = Field(default=None, ge=2, description="real clips")
    generated: int | None = Field(default=None, ge=2, description="generated clips")


class FrameSize(ConfigModel):
    """The size of the clips before the protocol's own resizing."""

    height: int = Field(ge=1, description="pixels")
    width: int = Field(ge=1, description="pixels")


class ReferenceSettings(ConfigModel):
    """Where the protocol is published."""

    paper: str | None = Field(default=None, description="the paper that defines or uses it")
    code: str | None = Field(default=None, description="the code whose arithmetic it is")


class ProtocolSettings(ConfigModel):
    """Everything between two sets of clips and the number."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the protocol")
    distance_name: str = Field(description="name of the figure, printed beside the number; FVD is I3D's alone")
    network: NETWORKS = Field(description="network whose features are compared (`eval.weights` has its files)")
    num_frames: int | None = Field(default=None, ge=1, description="frames per clip; null: as the clips are")
    fps: float | None = Field(default=None, gt=0, description="frames per second; null: as the data is")
    frame_size: FrameSize | None = Field(default=None, description="size of the clips; null: as the data is")
    resize: ResizeSettings
    value_range: Literal["bytes", "unit", "signed", "imagenet"] = Field(
        description="what the network sees: 0..255; [0, 1]; [-1, 1]; [0, 1] less ImageNet's mean, over its deviation"
    )
    temporal: Literal["mean-of-logits", "mean-of-tokens", "attentive-pooler", "pooled"] = Field(
        description="how time is aggregated inside the network"
    )
    distance: Annotated[FrechetSettings | MmdSettings, Field(discriminator="kind")]
    clips: ClipCounts = ClipCounts()
    sampling: str = Field(description="how clips are drawn from videos, in words")
    equals: str = Field(description="what it equals, tested, and what cannot be shown or is not published")
    reference: ReferenceSettings = ReferenceSettings()
    paper_line: str = Field(
        description="a sentence for a paper, with {value}, {generated}, {real}, {frames}, {rate}, {size}, {version}"
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> ProtocolSettings:
        if self.network == "motion-encoder" and self.resize.kind != "network":
            raise ValueError("the motion encoder resizes clips itself: resize.kind must be network")
        if self.resize.kind == "network" and self.network not in ("motion-encoder", "i3d-torchscript"):
            raise ValueError(f"{self.network} does not resize clips itself: resize.kind must not be network")
        if self.resize.kind == "network" and self.value_range != "bytes":
            raise ValueError(f"a network that resizes clips itself sees bytes, not {self.value_range}")
        if self.distance_name == "FVD" and not (self.network.startswith("i3d") and self.distance.kind == "frechet"):
            raise ValueError("distance_name: FVD is the Frechet distance on I3D; give this one another name")
        try:
            self.paper_line.format(**dict.fromkeys(PLACES_IN_A_LINE, ""))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            known = ", ".join(f"{{{place}}}" for place in PLACES_IN_A_LINE)
            raise ValueError(f"paper_line: {error} is no place that is filled; known: {known}") from None
        return self

    def as_record(self) -> dict[str, Any]:
        """The settings as plain values, for a record that says how a number was made."""
        return self.model_dump(mode="json")


def protocol_names() -> list[str]:
    """The names of the protocols that come with the package, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load_protocol(name_or_path: str | Path) -> ProtocolSettings:
    """The protocol of that name, or of a YAML file of one's own.

    Raises UserError for an unknown name, which lists the known ones, and for a file that is missing, no YAML, or has
    keys or values that are not a protocol's: a line for each.
    """
    text = str(name_or_path)
    if text in protocol_names():
        return _read(FOLDER / f"{text}.yaml")
    file = Path(text).expanduser()
    if file.suffix in (".yaml", ".yml"):
        return _read(file)
    nearest = get_close_matches(text, protocol_names(), n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise UserError(f"protocol {text!r}: unknown{hint} Known: {', '.join(protocol_names())}; or a path to a .yaml file")


def _read(file: Path) -> ProtocolSettings:
    try:
        data = file.read_bytes()
        if len(data) > LARGEST_FILE:
            raise UserError(f"{file}: {len(data)} bytes; a protocol has at most {LARGEST_FILE}")
        values = yaml.safe_load(data)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{file}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: expected the `key: value` lines of a protocol")
    try:
        return ProtocolSettings.model_validate(values)
    except ValidationError as error:
        lines = [_line(file, problem) for problem in error.errors(include_url=False)]
        raise UserError("\n".join(dict.fromkeys(lines))) from None


def _line(file: Path, problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"] if part not in ("frechet", "mmd"))
    got = "" if problem["type"] in ("missing", "extra_forbidden", "value_error") else f" (got {problem['input']!r})"
    said = str({"missing": "missing", "extra_forbidden": "unknown key"}.get(problem["type"], problem["msg"]))
    return f"{file}: {f'{key}: ' if key else ''}{said.removeprefix('Value error, ')}{got}"

"""The manifest of a bundle, `manifest.json`: all its keys, for the export that writes it and for every reader.

Fields that measuring does not need may be missing; they are None then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_runner.bundle.form import NULL, FormError, JsonObject, read_object
from device_runner.bundle.whole_path import PipelineEntry
from device_runner.errors import RunnerError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
DTYPE_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "float16": 2,
    "int32": 4,
    "float32": 4,
    "int64": 8,
    "float64": 8,
}


@dataclass(frozen=True)
class FileEntry(JsonObject):
    """The content of a file: hexadecimal SHA-256 and size."""

    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        if self.size_bytes < 0:
            raise FormError("size_bytes", f"must not be negative, got {self.size_bytes}")


@dataclass(frozen=True)
class TensorEntry(JsonObject):
    """An input of a program, with its reference values in a raw file (C order, little-endian)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str

    def __post_init__(self) -> None:
        if any(size <= 0 for size in self.shape):
            raise FormError("shape", f"must be a list of positive whole numbers, not {list(self.shape)}")
        if self.dtype not in DTYPE_BYTES:
            raise FormError("dtype", f"{self.dtype!r} is not known; known: {', '.join(DTYPE_BYTES)}")


@dataclass(frozen=True)
class OutputEntry(TensorEntry):
    """An output of a program, with the model's own output for the reference inputs."""

    min_psnr_db: float
    """Least PSNR against the reference at which a device's values count."""


@dataclass(frozen=True, kw_only=True)
class ParityCheck(JsonObject):
    """The deviation of one output from the model's, on one kind of inputs."""

    inputs: str
    output: str | None = None
    psnr_db: float
    snr_db: float
    max_abs_error: float


@dataclass(frozen=True)
class MagnitudeEntry(JsonObject):
    """The largest absolute value that a layer computes; half precision holds up to 65504."""

    layer: str
    largest: float


@dataclass(frozen=True, kw_only=True)
class HalfEntry(JsonObject):
    """The outputs of the graph run in half precision against the model's: the worst, and every check."""

    arithmetic: str
    """What was rounded, and what was not."""
    psnr_db: float
    checks: tuple[ParityCheck, ...] = ()
    largest: tuple[MagnitudeEntry, ...] = ()
    """The layers with the largest values, the largest first."""
    overflow: str | None = None
    """First layer with a value beyond half precision."""


@dataclass(frozen=True, kw_only=True)
class BuildCheck(JsonObject):
    """The program's outputs in a runtime as applications build it: the worst PSNR against the model's."""

    load_mode: str
    weight_cache: str
    psnr_db: float


@dataclass(frozen=True, kw_only=True)
class ParityEntry(JsonObject):
    """The deviation of a program's outputs from the model's: the worst on the reference inputs, and every check."""

    executed_here: bool | None = None
    """True if the program was run where it was exported."""
    reason: str | None = None
    """Reason why it was not run."""
    arithmetic: str | None = None
    """The arithmetic of the run here, which may be another than a phone's."""
    psnr_db: float | None = None
    snr_db: float | None = None
    max_abs_error: float | None = None
    inputs: str | None = None
    checks: tuple[ParityCheck, ...] = ()
    half: HalfEntry | None = None
    """The same in half precision, for a program that computes in it."""
    builds: tuple[BuildCheck, ...] = ()
    """The same in other builds of the runtime, as far as they could be run here."""
    builds_reason: str | None = None
    """Reason why other builds were not tried."""


@dataclass(frozen=True)
class OutsideOperator(JsonObject):
    """An operator outside every backend: its name, number of calls, and the shapes of its tensors (first few calls)."""

    op: str
    count: int
    shapes: tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True, kw_only=True)
class DelegationEntry(JsonObject):
    """The part of a program that its backend runs: number of delegates, operators outside, share of those inside."""

    delegates: int | None = None
    operators_outside: tuple[OutsideOperator, ...] | None = None
    operators_inside: int | None = None
    flops_share: float | None = None
    operator_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class ProgramEntry(JsonObject):
    """A program: its file or folder, the method to run, its tensors, and what the export found out about it."""

    file: str
    method: str
    places: str | None = None
    """Name of the file that maps each of the program's operators to its place in the model."""
    precision: str | None = None
    layers: dict[str, str] | None = None
    """Precision of the layers that differ from `precision`."""
    size_bytes: int | None = None
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[OutputEntry, ...]
    parity: ParityEntry
    delegation: DelegationEntry
    lowering_s: float | None = None
    peak_memory_mb: int | None = None
    """Peak memory of the exporting process, until the program was written."""

    @property
    def size_mb(self) -> float:
        """Size in 10^6 bytes; 0 if it is not given."""
        return (self.size_bytes or 0) / 1e6


@dataclass(frozen=True, kw_only=True)
class ModelEntry(JsonObject):
    """The model that the bundle was made from: its size, and the form of its clips in pixels and in latents."""

    parameters: int | None = None
    flops: int | None = field(default=None, metadata={NULL: True})
    """Floating-point operations of one evaluation."""
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    latent_height: int | None = None
    latent_width: int | None = None
    sigma: float | None = None
    motion_bucket_id: float | None = None
    noise_aug_strength: float | None = None
    conditioning_inputs: bool | None = None
    """True if the micro-conditioning is an input of the program."""


@dataclass(frozen=True)
class CountsEntry(JsonObject):
    """Number of operator calls in a graph, and floating-point operations of its products."""

    operators: int
    flops: int


@dataclass(frozen=True)
class GraphEntry(JsonObject):
    """The cost of the one-step graph before and after constant folding."""

    before: CountsEntry
    after: CountsEntry


@dataclass(frozen=True)
class SensitivityEntry(JsonObject):
    """The loss of the output when only one block is rounded: SQNR in dB by precision."""

    block: str
    parameters: int
    sqnr_db: dict[str, float]


@dataclass(frozen=True)
class QuantizationEntry(JsonObject):
    """A mixed precision: that of most layers, the exceptions, and the sensitivity, most sensitive block first."""

    base: str
    layers: dict[str, str]
    sensitivity: tuple[SensitivityEntry, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest(JsonObject):
    """The whole manifest."""

    name: str
    target: str
    precision: str
    created: str
    programs: dict[str, ProgramEntry]
    model: ModelEntry
    graph: GraphEntry | None = None
    calibration_inputs: int | None = None
    """Number of real inputs that quantization ranges were taken from."""
    quantization: QuantizationEntry | None = None
    pipeline: PipelineEntry | None = None
    """The path's description, for a bundle of the whole path from a picture to frames."""
    files: dict[str, FileEntry]
    """Path in the bundle, with "/" between its parts -> content of the file."""
    tools: dict[str, str]
    """Name of a tool -> its version."""

    def __post_init__(self) -> None:
        if not self.programs:
            raise FormError("programs", "must name at least one program")
        self.runs_per_clip()  # inconsistent counts are reported while reading

    def runs_per_clip(self) -> dict[str, int] | None:
        """Programs of the whole path in order -> their runs per clip; None if one of them is missing."""
        if self.pipeline is None:
            return None
        try:
            return self.pipeline.runs_per_clip(self.programs)
        except FormError as error:
            raise FormError(f"pipeline.{error.place}", error.text) from None

    def to_json(self) -> dict[str, Any]:
        """The object for `json.dumps`, its keys in the order of the file."""
        return {"schema_version": SCHEMA_VERSION, **super().to_json()}

    @classmethod
    def from_json(cls, content: Any, where: Path | str = MANIFEST) -> Manifest:
        """Read the manifest from decoded JSON.

        Raises `RunnerError` naming `where` and the key: unknown schema version, missing or mistyped field.
        """
        try:
            version = content.get("schema_version") if isinstance(content, dict) else SCHEMA_VERSION
            if version != SCHEMA_VERSION:
                raise FormError("schema_version", f"is {version!r}; this program reads version {SCHEMA_VERSION}")
            return read_object(cls, content)
        except FormError as error:
            raise RunnerError(f"{where}: {error}") from None

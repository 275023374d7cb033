"""The manifest's form: what is written is read back as it was, and what does not fit is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device_runner.bundle.form import FormError
from device_runner.bundle.manifest import (
    CountsEntry,
    DelegationEntry,
    FileEntry,
    GraphEntry,
    Manifest,
    ModelEntry,
    OutputEntry,
    OutsideOperator,
    ParityCheck,
    ParityEntry,
    ProgramEntry,
    QuantizationEntry,
    SensitivityEntry,
    TensorEntry,
)
from device_runner.bundle.read import read_manifest
from device_runner.bundle.whole_path import (
    AugmentedPictureEntry,
    DecoderEntry,
    DrawEntry,
    FramesEntry,
    LatentsEntry,
    PictureEntry,
    PipelineEntry,
    RandomEntry,
)
from device_runner.errors import RunnerError

UNET = ProgramEntry(
    file="unet.pte",
    method="forward",
    places="unet.places.json",
    precision="8da4w",
    layers={"conv_in": "fp32"},
    size_bytes=5,
    inputs=(TensorEntry("noise", (5, 4, 2, 3), "float32", "reference/unet.noise.bin"),),
    outputs=(OutputEntry("latents", (5, 4, 2, 3), "float32", "reference/unet.latents.bin", 60.0),),
    parity=ParityEntry(
        executed_here=True,
        psnr_db=61.5,
        snr_db=50.25,
        max_abs_error=0.01,
        inputs="noise",
        checks=(ParityCheck(inputs="noise", output="latents", psnr_db=61.5, snr_db=50.25, max_abs_error=0.01),),
    ),
    delegation=DelegationEntry(
        delegates=2,
        operators_outside=(OutsideOperator("aten.sin.default", 2, (((1, 4), ()), ((0,),))),),
        operators_inside=98,
        flops_share=1.0,
        operator_share=0.98,
    ),
    lowering_s=1.25,
    peak_memory_mb=900,
)
MODEL = ModelEntry(
    parameters=516,
    num_frames=5,
    height=16,
    width=24,
    fps=7,
    latent_height=2,
    latent_width=3,
    sigma=700.0,
    motion_bucket_id=127,
    noise_aug_strength=0.02,
    conditioning_inputs=False,
)
PIPELINE = PipelineEntry(
    order=("unet",),
    codec="tiny",
    picture=PictureEntry(height=16, width=24, channels="RGB", range=(-1.0, 1.0), fit="resized"),
    augmented_picture=AugmentedPictureEntry(noise_aug_strength=0.02, formula="picture + noise"),
    random=RandomEntry(generator="torch", draws=(DrawEntry(name="noise", shape=(1, 5, 4, 2, 3)),)),
    added_time_ids=(6.0, 127.0, 0.02),
    latents=LatentsEntry(scaled=True, scaling_factor=0.2, unscaled_in="decoder"),
    decoder=DecoderEntry(kind="own", frames_per_chunk=5, frames_left_over=0),
    frames=FramesEntry(count=5, height=16, width=24, range=(-1.0, 1.0), fps=7),
)
MANIFEST = Manifest(
    name="small",
    target="executorch-xnnpack",
    precision="mixed",
    created="2025-01-01T00:00:00+00:00",
    programs={"unet": UNET},
    model=MODEL,
    graph=GraphEntry(CountsEntry(120, 3000), CountsEntry(100, 2000)),
    calibration_inputs=0,
    quantization=QuantizationEntry(
        "8da4w", {"conv_in": "fp32"}, (SensitivityEntry("conv_in", 9, {"fp16": 60.5, "8da4w": 20.0}),)
    ),
    pipeline=PIPELINE,
    files={"unet.pte": FileEntry("ab" * 32, 5)},
    tools={"python": "3.11"},
)
PHONE_ONLY = replace(UNET, places=None, layers={}, parity=ParityEntry(executed_here=False, reason="needs a phone"))
LEAST = replace(
    MANIFEST,
    **{"programs": {"unet": PHONE_ONLY}, "model": ModelEntry()},
    **dict.fromkeys(("graph", "calibration_inputs", "quantization", "pipeline")),
)


@pytest.mark.parametrize("manifest", [MANIFEST, LEAST], ids=["all keys", "few keys"])
def test_what_is_written_is_read_back(manifest: Manifest, tmp_path: Path) -> None:
    text = json.dumps(manifest.to_json(), allow_nan=False)
    (tmp_path / "manifest.json").write_text(text)
    read = read_manifest(tmp_path)
    assert read == manifest and json.dumps(read.to_json()) == text
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_keys_are_those_of_the_schema_in_their_order() -> None:
    """Bundles outlive versions of this program: a key that is renamed or moved makes them unreadable."""
    written = MANIFEST.to_json()
    own = ["name", "target", "precision", "created", "programs", "model"]
    told = ["graph", "calibration_inputs", "quantization", "pipeline"]
    assert list(written) == ["schema_version", *own, *told, "files", "tools"] and written["schema_version"] == 1
    unet = written["programs"]["unet"]
    settings = ["file", "method", "places", "precision", "layers", "size_bytes"]
    found_out = ["inputs", "outputs", "parity", "delegation", "lowering_s", "peak_memory_mb"]
    assert list(unet) == [*settings, *found_out]
    assert unet["outputs"] == [
        {
            "name": "latents",
            "shape": [5, 4, 2, 3],
            "dtype": "float32",
            "file": "reference/unet.latents.bin",
            "min_psnr_db": 60.0,
        }
    ]
    assert list(unet["parity"]) == ["executed_here", "psnr_db", "snr_db", "max_abs_error", "inputs", "checks"]
    assert unet["delegation"]["operators_outside"] == [
        {"op": "aten.sin.default", "count": 2, "shapes": [[[1, 4], []], [[0]]]}
    ]
    path = [
        "order",
        "codec",
        "picture",
        "augmented_picture",
        "random",
        "added_time_ids",
        "latents",
        "decoder",
        "frames",
    ]
    assert list(written["pipeline"]) == path
    assert written["pipeline"]["augmented_picture"] == {"noise_aug_strength": 0.02, "is": "picture + noise"}
    assert written["files"] == {"unet.pte": {"sha256": "ab" * 32, "size_bytes": 5}}


def test_what_is_not_known_is_left_out_or_null() -> None:
    written = MANIFEST.to_json()
    assert list(written["model"])[:2] == ["parameters", "flops"] and written["model"]["flops"] is None
    assert written["pipeline"]["decoder"]["program_for_frames_left_over"] is None
    few = LEAST.to_json()
    assert few["model"] == {} and not {"graph", "calibration_inputs", "quantization", "pipeline"} & set(few)
    assert few["programs"]["unet"]["layers"] == {} and "places" not in few["programs"]["unet"]
    assert few["programs"]["unet"]["parity"] == {"executed_here": False, "reason": "needs a phone"}


def test_what_measuring_does_not_need_may_be_missing() -> None:
    """As in the first bundles, whose proofs were shorter, and in bundles that another program made."""
    unet = {
        "file": "unet.pte",
        "method": "forward",
        "inputs": [],
        "outputs": [],
        "parity": {"psnr_db": 120, "checks": [{"inputs": "noise", "psnr_db": 120, "snr_db": 110, "max_abs_error": 0}]},
        "delegation": {"delegates": 1, "operators_outside": []},
    }
    content = {**LEAST.to_json(), "programs": {"unet": unet, "other": {**unet, "parity": {}, "delegation": {}}}}
    read = Manifest.from_json(content)
    assert read.programs["unet"].size_bytes is None and read.programs["unet"].parity.checks[0].output is None
    assert read.programs["other"].delegation == DelegationEntry() and read.to_json() == content


def test_keys_that_a_later_version_may_write_are_passed_over() -> None:
    content = MANIFEST.to_json()
    content["programs"]["unet"]["licence"] = content["licence"] = "Apache-2.0"
    assert Manifest.from_json(content) == MANIFEST


def put(value: Any, *keys: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        inside: Any = content
        for key in keys[:-1]:
            inside = inside[key]
        inside[keys[-1]] = value

    return change


UNET_KEYS = ("programs", "unet")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda content: content.pop("tools"), "tools must be an object, but is missing"),
        (
            lambda content: content["programs"]["unet"].pop("inputs"),
            "programs.unet.inputs must be a list, but is missing",
        ),
        (put(2, "schema_version"), "schema_version is 2; this program reads version 1"),
        (put({}, "programs"), "programs must name at least one program"),
        (put(3, *UNET_KEYS, "places"), "programs.unet.places must be a text, not 3"),
        (put(None, *UNET_KEYS, "places"), "programs.unet.places must be a text, not None"),
        (put("", *UNET_KEYS, "file"), "programs.unet.file must not be empty"),
        (put("9", *UNET_KEYS, "lowering_s"), "programs.unet.lowering_s must be a number, not '9'"),
        (put([7], *UNET_KEYS, "layers"), "programs.unet.layers must be an object, not [7]"),
        (put(8, *UNET_KEYS, "layers", "conv_in"), "programs.unet.layers.conv_in must be a text, not 8"),
        (
            put(1, *UNET_KEYS, "parity", "executed_here"),
            "programs.unet.parity.executed_here must be true or false, not 1",
        ),
        (put(float("inf"), *UNET_KEYS, "parity", "psnr_db"), "programs.unet.parity.psnr_db must be finite, not inf"),
        (put(10**400, "model", "sigma"), f"model.sigma must be finite, not {10**400}"),
        (put(5.0, "model", "num_frames"), "model.num_frames must be a whole number, not 5.0"),
        (put(True, "model", "flops"), "model.flops must be a whole number, not True"),
        (
            put("x", *UNET_KEYS, "delegation", "operators_outside", 0, "shapes", 0, 1, slice(0, 0)),
            "programs.unet.delegation.operators_outside[0].shapes[0][1][0] must be a whole number, not 'x'",
        ),
        (
            put([1, 0], *UNET_KEYS, "inputs", 0, "shape"),
            "programs.unet.inputs[0].shape must be a list of positive whole",
        ),
        (
            put("bfloat", *UNET_KEYS, "outputs", 0, "dtype"),
            "programs.unet.outputs[0].dtype 'bfloat' is not known; known:",
        ),
        (put(-1, "files", "unet.pte", "size_bytes"), "files.unet.pte.size_bytes must not be negative, got -1"),
        (put("seven", "pipeline", "added_time_ids", 1), "pipeline.added_time_ids[1] must be a number, not 'seven'"),
        (
            put(6, "pipeline", "decoder", "frames_per_chunk"),
            "pipeline.decoder.frames_per_chunk must be from 1 to the 5",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_with_file_and_key(change: Callable[[dict[str, Any]], Any], text: str) -> None:
    content = MANIFEST.to_json()
    change(content)
    with pytest.raises(RunnerError) as caught:
        Manifest.from_json(content, "a bundle/manifest.json")
    message = str(caught.value)
    assert message.startswith(f"a bundle/manifest.json: {text}") and "\n" not in message


@pytest.mark.parametrize("content", [[], None, "text", 1])
def test_what_is_no_object_is_refused(content: Any) -> None:
    with pytest.raises(RunnerError, match="manifest.json: the whole must be an object"):
        Manifest.from_json(content)


def test_a_wrong_manifest_is_not_even_made() -> None:
    with pytest.raises(FormError, match="shape must be a list of positive whole numbers"):
        TensorEntry("noise", (4, 0), "float32", "noise.bin")
    with pytest.raises(FormError, match="pipeline.decoder.program_for_frames_left_over 'rest' is not a program"):
        decoder = replace(PIPELINE.decoder, frames_per_chunk=2, program_for_frames_left_over="rest")
        replace(MANIFEST, pipeline=replace(PIPELINE, decoder=decoder))

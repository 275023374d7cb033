"""Compression of a Core ML program's weights, and the choice of weights that stay at fp16."""

from __future__ import annotations

from typing import Any

from torch.export import ExportedProgram

from export.program.layer_precision import LayerPrecisions, precision_of
from export.targets.coreml_package import MIN_ELEMENTS, constants, weight_names
from mobilevd.errors import UserError

GROUP_CHANNELS = 16  # channels that share a table of 16 values: with one for a whole weight four bits are too coarse


def kept_weights(graph: ExportedProgram, layers: LayerPrecisions | None) -> frozenset[str]:
    """Names that coremltools gives to the weights of layers that are to stay at fp16 (constants "NAME_to_fp16").

    Raises:
        UserError: a layer has no weights in the graph.
    """
    if not layers:
        return frozenset()
    kept = set()
    paths = {name: path.rpartition(".")[0] for name, path in graph.graph_signature.inputs_to_parameters.items()}
    for layer in layers:
        if not any(precision_of(path, "", {layer: "named"}) for path in paths.values()):
            raise UserError(f"no weights belong to a layer {layer!r}; a layer is named by its path in the model")
    for name, path in paths.items():
        if precision_of(path, "", layers) == "fp16":
            kept.add(f"{name}_to_fp16")
    return frozenset(kept)


def compress(model: Any, precision: str, kept: frozenset[str]) -> Any:
    """Return a Core ML model with its weights in `precision`, except those named in `kept`."""
    import coremltools.optimize.coreml as cto

    own: Any = {name: None for name in kept}  # a configuration by name; None leaves a weight as it is
    if precision == "int8":
        scales = cto.OpLinearQuantizerConfig(
            mode="linear_symmetric", granularity="per_channel", weight_threshold=MIN_ELEMENTS
        )
        return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=scales, op_name_configs=own))
    bits = int(precision.removeprefix("palettized"))
    table = cto.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=MIN_ELEMENTS)
    grouped = table
    if bits == 4:
        own |= {name: table for name in _not_in_groups(model) if name not in own}
        grouped = cto.OpPalettizerConfig(
            mode="kmeans",
            nbits=bits,
            granularity="per_grouped_channel",
            group_size=GROUP_CHANNELS,
            weight_threshold=MIN_ELEMENTS,
        )
    return cto.palettize_weights(model, cto.OptimizationConfig(global_config=grouped, op_name_configs=own))


def _not_in_groups(model: Any) -> list[str]:
    """Weights whose output channels do not divide into groups: coremltools would leave them as they are."""
    spec = model.get_spec()
    weights = constants(spec)
    return [
        name
        for name in weight_names(spec)
        if name in weights and weights[name].shape[0] % GROUP_CHANNELS and weights[name].numel >= MIN_ELEMENTS
    ]

"""What holds for every way of running the UNet: rank, the phone's spelling, checkpointing, half precision, sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mobilevd.errors import UserError
from mobilevd.model.layers.ops import PLAIN_ATTENTION_KEYS, ScaledDotProduct, set_phone_form
from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, SpatioTemporalUNet
from tests.mobilevd.unets import inputs, relative_error, run, small_config, small_unet

FORMS: dict[str, dict[str, Any]] = {
    "svd": {},
    "compressed": {
        "cross_attention": "projection",
        "temporal_scale": 2,
        "spatial_scale": 2,
        "temporal_blocks": ["down_blocks.0.attentions.0", "up_blocks.1.resnets.1"],
        "inner_widths": {
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.qk": 5,
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.vo": 7,
            "mid_block.resnets.0.spatial_res_block.conv": 24,
        },
    },
    "funnels": {
        "live_funnels": True,
        "temporal_gates": True,
        "inner_widths": {
            "up_blocks.1.attentions.0.temporal_transformer_blocks.0.attn1.qk": 8,
            "up_blocks.1.attentions.0.temporal_transformer_blocks.0.attn1.vo": 8,
            "up_blocks.1.resnets.0.temporal_res_block.conv": 20,
        },
    },
}


class Watch(TorchDispatchMode):
    """Remembers which operators ran and the highest rank of a tensor that one of them returned."""

    def __init__(self) -> None:
        super().__init__()
        self.rank, self.worst, self.operators = 0, "", set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operators.add(func.overloadpacket.__name__)
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.ndim > self.rank:
                self.rank, self.worst = tensor.ndim, str(func)
        return out


@pytest.mark.parametrize("phone_form", [False, True], ids=["native", "phone"])
@pytest.mark.parametrize("form", FORMS)
def test_no_tensor_of_the_body_has_rank_above_4(form: str, phone_form: bool) -> None:
    unet = small_unet(**FORMS[form])
    set_phone_form(unet, phone_form)
    sample, timestep, embedding, ids = inputs(unet, size=(8, 8))
    watch = Watch()
    with torch.no_grad(), watch:
        unet.denoise_frames(sample.flatten(0, 1), unet.embed_time(timestep, ids), embedding, sample.shape[1])
    assert watch.rank == 4, f"{watch.worst} made a tensor of rank {watch.rank}"


@pytest.mark.parametrize("keys", [8, PLAIN_ATTENTION_KEYS + 8], ids=["plain products", "fused kernel"])
def test_attention_in_half_precision_training_is_that_of_full_precision(keys: int) -> None:
    """Outputs and gradients against float64, to what bfloat16 carries (2^-8)."""
    torch.manual_seed(0)
    exact = [torch.randn(2, 2, keys, 16, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    rounded = [x.detach().bfloat16().requires_grad_() for x in exact]
    weight = torch.randn(2, 2, keys, 16, dtype=torch.float64)
    q, k, v = exact
    reference = torch.softmax(0.3 * q @ k.transpose(2, 3), dim=-1) @ v
    ours = ScaledDotProduct(0.3)(*rounded)
    assert ours.dtype == torch.bfloat16 and relative_error(ours.double(), reference) < 2e-2
    wanted = torch.autograd.grad((reference * weight).sum(), exact)
    found = torch.autograd.grad((ours.double() * weight).sum(), rounded)
    for ours_gradient, gradient in zip(found, wanted, strict=True):
        assert relative_error(ours_gradient.double(), gradient) < 3e-2


@pytest.mark.parametrize("form", FORMS)
def test_the_phones_spelling_computes_the_same(form: str) -> None:
    unet = small_unet(**FORMS[form])
    arguments = inputs(unet, size=(8, 8))
    native = run(unet, arguments)
    set_phone_form(unet)
    watch = Watch()
    with watch:
        phone = run(unet, arguments)
    assert relative_error(phone, native) <= 1e-5
    assert not any("layer_norm" in name or "group_norm" in name or "attention" in name for name in watch.operators)
    set_phone_form(unet, False)
    assert torch.equal(run(unet, arguments), native)


@pytest.mark.parametrize("form", FORMS)
def test_the_training_form_has_the_same_outputs_and_gradients(form: str) -> None:
    unet = small_unet(**FORMS[form]).double()
    sample, *conditions = [x.double() for x in inputs(unet, size=(8, 8))]

    def outputs_and_gradients() -> list[torch.Tensor]:
        unet.zero_grad()
        x = sample.clone().requires_grad_()
        out = unet(x, *conditions)
        features = unet.encoder_features(x, *conditions)
        (out.square().mean() + sum(f.square().mean() for f in features)).backward()
        # none may be missing: DDP waits for all, and optimizers keep states of all
        gradients = {name: p.grad for name, p in unet.named_parameters() if name != "temporal_importance"}
        assert x.grad is not None and all(gradient is not None for gradient in gradients.values())
        return [
            out.detach(),
            *(f.detach() for f in features),
            x.grad,
            *(g.clone() for g in gradients.values() if g is not None),
        ]

    plain = outputs_and_gradients()
    unet.set_training_form()
    for found, wanted in zip(outputs_and_gradients(), plain, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_the_native_form_uses_fused_attention() -> None:
    watch = Watch()
    with watch:
        run(small_unet())
    assert any("scaled_dot_product" in name for name in watch.operators), sorted(watch.operators)
    assert not any("softmax" in name for name in watch.operators)


def test_gradient_checkpointing_gives_the_same_gradients_from_fewer_kept_tensors() -> None:
    unet = small_unet().train()
    arguments = inputs(unet)
    kept: list[int] = []
    gradients = []
    for enabled in (False, True):
        unet.set_gradient_checkpointing(enabled)
        unet.zero_grad()
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = unet(*arguments).square().mean()
            kept.append(total)
        loss.backward()
        gradients.append({n: p.grad.clone() for n, p in unet.named_parameters() if p.grad is not None})
    assert len(gradients[0]) == len(list(unet.parameters()))
    assert kept[1] < 0.5 * kept[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-8, msg=name)


def test_bfloat16_runs_close_to_float32_and_has_gradients() -> None:
    unet = small_unet()
    arguments = inputs(unet)
    expected = run(unet, arguments)
    half = torch.nn.Module.to(unet, torch.bfloat16)
    sample, timestep, embedding, ids = arguments
    out = half(sample.bfloat16(), timestep, embedding.bfloat16(), ids)
    assert out.dtype == torch.bfloat16
    assert relative_error(out.detach().float(), expected) < 0.05
    out.float().square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in half.parameters())


def test_autocast_runs() -> None:
    unet = small_unet()
    expected = run(unet)
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_error(run(unet).float(), expected) < 0.05


def test_a_gate_of_0_removes_a_block_and_a_gate_of_1_changes_nothing() -> None:
    unet = small_unet()
    free = run(unet)
    for mixer in unet.time_mixers().values():
        mixer.gate = torch.tensor(1.0)
    assert relative_error(run(unet), free) < 2e-6  # another order of the same sums
    for mixer in unet.time_mixers().values():
        mixer.gate = torch.tensor(0.0)
    spatial = small_unet(temporal_blocks=[])
    spatial.load_state_dict({k: v for k, v in unet.state_dict().items() if k in spatial.state_dict()})
    assert relative_error(run(unet), run(spatial)) < 2e-6
    assert relative_error(run(unet), free) > 0.01


def test_sizes_that_do_not_fit_are_named() -> None:
    unet = small_unet(spatial_scale=2, temporal_scale=2)
    with pytest.raises(UserError, match="latents of 6x8.*divisible by 4"):
        run(unet, inputs(unet, size=(6, 8)))
    with pytest.raises(UserError, match="3 frames.*divisible by its temporal scale 2"):
        run(unet, inputs(unet, num_frames=3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_out_channels": (32, 48)}, "48 channels are not divisible into 32"),
        ({"num_attention_heads": (2, 5)}, "64 channels are not divisible by 5 attention heads"),
        ({"num_attention_heads": (2,)}, "num_attention_heads has 1 entries for 2 levels"),
        ({"down_block_types": (CROSS_DOWN, "DownBlock3D")}, "unknown block type 'DownBlock3D'"),
        ({"up_block_types": (CROSS_UP,)}, "2 down_block_types, 1 up_block_types and 2 block_out_channels"),
        ({"cross_attention": "none"}, "cross_attention is 'none'"),
        ({"scale_operator": "max"}, "scale_operator is 'max'"),
        ({"temporal_blocks": ["mid_block.resnets.7"]}, "'mid_block.resnets.7', which is no block"),
        (
            {
                "spatial_scale": 2,
                "block_out_channels": (32,),
                "down_block_types": (CROSS_DOWN,),
                "up_block_types": (CROSS_UP,),
                "num_attention_heads": 2,
            },
            "spatial_scale needs at least two levels",
        ),
    ],
)
def test_a_wrong_config_is_one_clear_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SpatioTemporalUNet(**small_config(**changes))


def test_svds_unet_has_38_temporal_blocks_in_the_order_of_the_forward_pass() -> None:
    with torch.device("meta"):
        names = SpatioTemporalUNet().temporal_block_names()
    assert len(names) == 38
    assert sum(".attentions." in name for name in names) == 16
    assert names[:3] == ["down_blocks.0.resnets.0", "down_blocks.0.attentions.0", "down_blocks.0.resnets.1"]
    assert names[19 - 5 : 19 - 2] == ["mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"]
    assert names[-1] == "up_blocks.3.attentions.2"

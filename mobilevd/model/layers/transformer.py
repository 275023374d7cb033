"""The transformer of a UNet block: attention inside each frame, then across frames, and their learned blend."""

from __future__ import annotations

from torch import Tensor, nn

from mobilevd.model.layers.architecture import Architecture
from mobilevd.model.layers.attention import Attention, CrossAttentionProjection, FeedForward
from mobilevd.model.layers.embeddings import EmbeddingMLP, SinusoidalEmbedding
from mobilevd.model.layers.ops import GroupNorm, LayerNorm, checkpointed, repeat_per, with_zero_gradients
from mobilevd.model.layers.resnet import NORM_GROUPS, TimeMixer


class AttentionBlock(nn.Module):
    """Self-attention, cross-attention to the image token and feed-forward, each behind a norm and residual.

    tokens (N, S, C), context (B, 1, D) -> (N, S, C). The spatial block of a transformer takes a frame's pixels as
    tokens (N = B*T, S = H*W), the temporal block a pixel's frames (N = B*H*W, S = T). In the training form full
    cross-attention to one token is computed without its queries and keys, which do not change it.
    """

    def __init__(self, name: str, dim: int, heads: int, context_dim: int, arch: Architecture) -> None:
        super().__init__()
        attn1 = f"{name}.attn1"
        qk, vo = arch.width(attn1, "qk"), arch.width(attn1, "vo")
        live = arch.live_funnels and (qk is not None or vo is not None)
        self.norm1 = LayerNorm(dim)
        self.attn1 = Attention(dim, heads, qk_dim=qk, vo_dim=vo, live_funnels=live)
        if arch.cross_attention == "full":
            self.norm2 = LayerNorm(dim)
            self.attn2 = Attention(dim, heads, context_dim=context_dim)
        else:
            self.norm2 = None
            self.attn2 = CrossAttentionProjection(dim, context_dim)
        self.training_form = False
        self.norm3 = LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = self.attn1(self.norm1(x)) + x
        repeats = x.shape[0] // context.shape[0]
        if self.norm2 is None:
            x = repeat_per(self.attn2(context), repeats) + x
        elif self.training_form and context.shape[1] == 1:
            assert isinstance(self.attn2, Attention)
            value = with_zero_gradients(self.attn2.to_one_token(context), self.norm2.parameters())
            x = (x.reshape(context.shape[0], -1, x.shape[-1]) + value).reshape(x.shape)
        else:
            # the context is repeated before it is projected, as SVD does: the count of its FLOPs depends on it
            tokens = context.repeat_interleave(repeats, dim=0, output_size=x.shape[0])
            x = self.attn2(self.norm2(x), tokens) + x
        return self.ff(self.norm3(x)) + x


class TemporalAttentionBlock(AttentionBlock):
    """An `AttentionBlock` across frames, with a feed-forward network in front."""

    def __init__(self, name: str, dim: int, heads: int, context_dim: int, arch: Architecture) -> None:
        super().__init__(name, dim, heads, context_dim, arch)
        self.norm_in = LayerNorm(dim)
        self.ff_in = FeedForward(dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = self.ff_in(self.norm_in(x)) + x
        return super().forward(x, context)


class SpatioTemporalTransformer(nn.Module):
    """Frames (B*T, C, H, W) and image token (B, 1, D) -> (B*T, C, H, W), residual."""

    def __init__(self, name: str, dim: int, heads: int, num_layers: int, context_dim: int, arch: Architecture) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.norm = GroupNorm(NORM_GROUPS, dim, eps=1e-6)
        self.proj_in = nn.Linear(dim, dim)
        self.transformer_blocks = nn.ModuleList(
            AttentionBlock(f"{name}.transformer_blocks.{i}", dim, heads, context_dim, arch) for i in range(num_layers)
        )
        self.temporal_transformer_blocks = self.time_pos_embed = self.time_mixer = None
        if arch.has_temporal(name):
            self.temporal_transformer_blocks = nn.ModuleList(
                TemporalAttentionBlock(f"{name}.temporal_transformer_blocks.{i}", dim, heads, context_dim, arch)
                for i in range(num_layers)
            )
            self.time_proj = SinusoidalEmbedding(dim)
            self.time_pos_embed = EmbeddingMLP(dim, 4 * dim, dim)
            self.time_mixer = TimeMixer()
        self.proj_out = nn.Linear(dim, dim)

    def frame_positions(self, frame_index: Tensor) -> Tensor:
        """Embedding of the frames' numbers: (T,) -> (T, C)."""
        assert isinstance(self.time_pos_embed, EmbeddingMLP)
        features = self.time_proj(frame_index)
        return self.time_pos_embed(features.to(self.proj_in.weight.dtype))

    def forward(self, x: Tensor, context: Tensor, frame_index: Tensor) -> Tensor:
        num_frames = frame_index.shape[0]
        frames, channels, height, width = x.shape
        batch, pixels = frames // num_frames, height * width
        tokens = self.norm(x).reshape(frames, channels, pixels).transpose(1, 2)  # (B*T, H*W, C)
        tokens = self.proj_in(tokens)
        temporal_blocks, mixer = self.temporal_transformer_blocks, self.time_mixer
        for i, block in enumerate(self.transformer_blocks):
            tokens = checkpointed(self.gradient_checkpointing, block, tokens, context)
            if temporal_blocks is None or mixer is None:
                continue
            clip = tokens.reshape(batch, num_frames, pixels, channels).transpose(1, 2)
            clip = clip.reshape(batch * pixels, num_frames, channels)  # (B*H*W, T, C)
            positioned = clip + self.frame_positions(frame_index)
            temporal = checkpointed(self.gradient_checkpointing, temporal_blocks[i], positioned, context)
            clip = mixer(clip, temporal)
            clip = clip.reshape(batch, pixels, num_frames, channels).transpose(1, 2)
            tokens = clip.reshape(frames, pixels, channels)
        tokens = self.proj_out(tokens)
        return tokens.transpose(1, 2).reshape(frames, channels, height, width) + x

"""Codecs: frames to latents and back, and a conditioning image to its embedding."""

from __future__ import annotations

from mobilevd.codecs.base import Codec
from mobilevd.codecs.loading import load_codec
from mobilevd.codecs.tiny import TinyCodec

__all__ = ["Codec", "TinyCodec", "load_codec"]

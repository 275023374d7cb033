"""Buckets of motion and of sizes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mobilevd.errors import UserError
from training.data.motion import MotionBuckets, brightness_of
from training.data.size_buckets import bucket_of, size_buckets


def test_the_median_clip_has_svds_default_and_ranks_are_uniform():
    magnitudes = np.random.default_rng(0).lognormal(-4, 1, 5001)
    scale = MotionBuckets.fit(magnitudes)
    assert scale.bucket(float(np.median(magnitudes))) == pytest.approx(127, abs=0.5)
    assert scale.bucket(magnitudes.min()) == 0 == scale.bucket(0.0)
    assert scale.bucket(magnitudes.max()) == 255 == scale.bucket(1.0)
    buckets = np.array([scale.bucket(magnitude) for magnitude in magnitudes])
    assert np.all(np.diff(buckets[np.argsort(magnitudes)]) >= 0)
    shares = np.histogram(buckets, 16, (0, 256))[0] / len(buckets)
    assert np.abs(shares - 1 / 16).max() < 0.01
    assert MotionBuckets.fit(magnitudes[::-1]) == scale


def test_equal_clips_share_a_bucket():
    assert MotionBuckets.fit([0.02]).bucket(0.02) == pytest.approx(127.25, abs=0.5)
    half_still = MotionBuckets.fit([0.0] * 500 + np.linspace(0.01, 0.1, 501).tolist())
    assert half_still.bucket(0.0) == pytest.approx(127 / 2, abs=4) and half_still.bucket(0.1) == 255


def test_the_scale_is_written_and_read():
    scale = MotionBuckets.fit(np.random.default_rng(1).random(100))
    assert MotionBuckets.from_json(json.loads(json.dumps(scale.to_json()))) == scale
    for wrong in ({}, {"magnitudes": [1], "buckets": []}, {"magnitudes": [2, 1], "buckets": [0, 9]}, {"magnitudes": 3}):
        with pytest.raises(ValueError, match="no scale of motion buckets"):
            MotionBuckets.from_json(wrong)  # type: ignore[arg-type]


def test_brightness_is_luma():
    assert brightness_of(np.full((2, 4, 4, 3), 255, np.uint8)) == pytest.approx(1.0)
    assert brightness_of(np.tile(np.array([0, 255, 0], np.uint8), (2, 4, 4, 1))) == pytest.approx(0.7152)


def test_sizes_have_the_area_and_divide():
    assert size_buckets(576, 1024, [], 64) == [(576, 1024)]
    buckets = size_buckets(576, 1024, [16 / 9, 1.0, 9 / 16, 4 / 3, 1.78], 64)
    assert buckets == [(1024, 576), (768, 768), (640, 896), (576, 1024)]
    for height, width in buckets:
        assert height % 64 == width % 64 == 0 and abs(height * width / (576 * 1024) - 1) < 0.05
    assert size_buckets(64, 128, [2.0, 0.5], 8) == [(128, 64), (64, 128)]
    with pytest.raises(UserError, match=r"data.aspect_ratios: 100 at 8192 pixels is 9x905 .*multiples of 64"):
        size_buckets(64, 128, [1.0, 100.0], 64)


@pytest.mark.parametrize(("aspect", "expected"), [(1.9, 3), (1.2, 1), (1.3, 2), (0.4, 0), (9 / 16, 0), (0.0, 0)])
def test_a_clip_goes_to_the_nearest_shape(aspect, expected):
    assert bucket_of(aspect, [(1024, 576), (768, 768), (640, 960), (576, 1024)]) == expected

"""ExecuTorch's backends for other processors: programs lowered here, and how far that can be followed without a device."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from device_runner.bundle.manifest import ModelEntry
from export.bundle import Item, write_bundle
from export.program.program import Program
from export.targets import decompositions
from export.targets.base import Target
from export.targets.edge import exported
from export.targets.executorch_coreml import ExecutorchCoreml
from export.targets.executorch_qnn import CHIP, ExecutorchQnn
from export.targets.executorch_vulkan import ExecutorchVulkan
from export.targets.qnn_sdk import LIBRARIES, ROOT, sdk_version
from mobilevd.errors import UserError
from mobilevd.model.layers.ops import GroupNorm, set_phone_form

aten = torch.ops.aten


@pytest.mark.parametrize(
    ("target", "backend"), [(ExecutorchCoreml(), "CoreMLBackend"), (ExecutorchVulkan(), "VulkanBackend")]
)
def test_one_delegate_and_nothing_outside(
    target: Target, backend: str, small_program: Program, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from executorch.exir._serialize._program import deserialize_pte_binary

    capfd.readouterr()
    set_phone_form(small_program.module)
    manifest = write_bundle([Item(small_program, "fp16")], target, tmp_path / "bundle", name="test", model=ModelEntry())
    assert capfd.readouterr() == ("", "")
    entry = manifest.programs["blocks"]
    assert entry.parity.executed_here is False and "not executed here: " in str(entry.parity.reason)
    delegation = entry.delegation
    assert (delegation.delegates, delegation.operators_outside) == (1, ())
    assert (delegation.operators_inside or 0) > 50 and delegation.flops_share == 1
    assert all(m.phone_form for m in small_program.module.modules() if isinstance(m, GroupNorm))  # as it was

    content = (tmp_path / "bundle" / "blocks.pte").read_bytes()
    (plan,) = deserialize_pte_binary(content).program.execution_plan
    assert [delegate.id for delegate in plan.delegates] == [backend]
    shapes = [getattr(plan.values[i].val, "sizes", None) for i in (*plan.inputs, *plan.outputs)]
    assert shapes == [[2, 4, 8, 8], [1, 1, 16], [2, 4, 4, 4]]
    halves = 2 * sum(p.numel() for p in small_program.module.parameters())
    assert 0.9 * halves < len(content) < 2 * halves  # weights of 16 bits


def test_spellings_compute_the_same(small_program: Program) -> None:
    for table in (decompositions.FOR_COREML, decompositions.FOR_VULKAN):
        graph = exported(small_program.module, small_program.example, table)
        output = graph.module()(*small_program.example)
        torch.testing.assert_close(output, small_program.references["noise"][0], rtol=1e-4, atol=1e-5)


def test_vulkan_gets_single_frames_and_norms_with_constant_weights(small_program: Program) -> None:
    graph = exported(small_program.module, small_program.example, decompositions.FOR_VULKAN).graph
    convolutions = [node for node in graph.nodes if node.target == aten.conv2d.default]
    norms = [n for n in graph.nodes if n.target in (aten.group_norm.default, aten.layer_norm.default)]
    assert len(convolutions) == 6 and len(norms) >= 9
    assert all(node.args[0].meta["val"].shape[0] == 1 for node in convolutions)
    assert all(argument.op == "placeholder" for norm in norms for argument in norm.args[2:4])
    assert all(len(norm.args) >= 4 for norm in norms)
    assert not [node for node in graph.nodes if node.target == aten.scaled_dot_product_attention.default]


def test_stacked_frames_do_not_see_each_other() -> None:
    done = 0
    for kernel, stride, padding, dilation, height in itertools.product(
        (1, 2, 3, 5), (1, 2, 3), (0, 1, 2), (1, 2), (5, 8)
    ):
        x, weight = torch.randn(3, 2, height, 9).double(), torch.randn(4, 2, kernel, 3).double()
        if height + 2 * padding <= dilation * (kernel - 1):
            continue
        options = ((stride, 1), (padding, 1), (dilation, 1))
        expected = F.conv2d(x, weight, None, *options)
        torch.testing.assert_close(decompositions._convolution_of_stacked_frames(x, weight, None, *options), expected)
        done += 1
    assert done > 100


def test_the_whole_program_has_one_precision(small_program: Program, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one precision for the whole program; resnet cannot have another"):
        ExecutorchVulkan().lower(small_program, "fp16", tmp_path / "a.pte", {"resnet": "fp32"})
    with pytest.raises(UserError, match="no precision 'int8'; it has fp16, fp32"):
        ExecutorchCoreml().check_precision("int8")
    assert not list(tmp_path.iterdir())


def test_qnn_says_which_sdk_is_missing_and_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = ExecutorchQnn()
    for unset in (None, ""):
        monkeypatch.delenv(ROOT, raising=False)
        if unset is not None:
            monkeypatch.setenv(ROOT, unset)
        with pytest.raises(
            UserError, match=rf"AI Engine Direct.*version {sdk_version()}.*{ROOT} is not set.*LD_LIBRARY"
        ):
            target.check_available()
    monkeypatch.setenv(ROOT, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=f"{ROOT} is .*nowhere, which does not exist"):
        target.check_available()
    (tmp_path / "include" / "QNN").mkdir(parents=True)
    monkeypatch.setenv(ROOT, str(tmp_path))
    with pytest.raises(UserError, match=r"which has no lib/x86_64-linux-clang/libQnnHtp\.so; it must be"):
        target.check_available()
    _make_sdk(tmp_path)
    with pytest.raises(UserError, match=f"LD_LIBRARY_PATH does not hold {tmp_path}/{LIBRARIES}"):
        target.check_available()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/usr/lib:{tmp_path}/{LIBRARIES}")
    target.check_available()


def test_qnn_compile_options(monkeypatch: pytest.MonkeyPatch) -> None:
    from executorch.backends.qualcomm.utils.utils import flatbuffer_to_option

    def options() -> tuple[str, str, str]:
        (spec,) = ExecutorchQnn().compile_specs()
        read = flatbuffer_to_option(spec.value)
        backend, htp = read.backend_options, read.backend_options.htp_options
        assert htp is not None
        return read.soc_info.soc_model.name, backend.backend_type.name, htp.precision.name

    monkeypatch.delenv(CHIP, raising=False)
    assert options() == ("SM8650", "kHtpBackend", "kHtpFp16")
    monkeypatch.setenv(CHIP, "SM8750")
    assert options()[0] == "SM8750"
    monkeypatch.setenv(CHIP, "A17")
    with pytest.raises(UserError, match=f"{CHIP}: unknown chip 'A17'; known are .*SM8650, SM8750"):
        options()


def test_qnn_lowers_up_to_the_sdk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_program: Program, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a library that is none: everything of ours and of ExecuTorch's runs until it is to be loaded."""
    _make_sdk(tmp_path)
    monkeypatch.setenv(ROOT, str(tmp_path))
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}/{LIBRARIES}")
    enabled = torch.backends.mkldnn.enabled
    capfd.readouterr()
    with pytest.raises(UserError, match=r"Qualcomm's SDK failed: .*(libQnnHtp\.so)"):
        ExecutorchQnn().lower(small_program, "fp16", tmp_path / "blocks.pte")
    assert capfd.readouterr() == ("", "")
    assert torch.backends.mkldnn.enabled == enabled and not (tmp_path / "blocks.pte").exists()


def _make_sdk(folder: Path) -> None:
    (folder / "include" / "QNN").mkdir(parents=True, exist_ok=True)
    (folder / LIBRARIES).mkdir(parents=True, exist_ok=True)
    (folder / LIBRARIES / "libQnnHtp.so").touch()

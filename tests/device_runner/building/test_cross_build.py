"""The builds for other machines: for Android with a stand-in for NDK and sources, and with a C library of its own."""

import json
import re
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from device_runner.building import wheel
from device_runner.building.android import OPTIONS, build_android, find_android_runner
from device_runner.building.command import build_runner_command, describe_built
from device_runner.building.glibc import build_glibc, find_glibc_runner
from device_runner.building.layout import host_abi
from device_runner.building.toolchain import installed_executorch, installed_version
from device_runner.devices.job import Platform
from device_runner.errors import RunnerError
from device_runner.runners.deployment import deployment_for

needs_cmake = pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("ninja") is None, reason="CMake or Ninja is not installed"
)
only_x86 = pytest.mark.skipif(
    host_abi() != "x86_64", reason="the stand-in for the NDK builds for this machine, as x86_64"
)

# In place of the NDK's toolchain: this machine's compiler, but only if it is told what an NDK must be told.
TOOLCHAIN = """
if(NOT ANDROID_ABI STREQUAL "x86_64" OR NOT ANDROID_PLATFORM STREQUAL "android-26")
  message(FATAL_ERROR "the NDK is told abi '${ANDROID_ABI}' and platform '${ANDROID_PLATFORM}'")
endif()
set(CMAKE_CXX_COMPILER c++)
set(ANDROID TRUE)
set(CMAKE_EXE_LINKER_FLAGS_INIT "-L${CMAKE_CURRENT_LIST_DIR}")
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ANDROID_ABI ANDROID_PLATFORM)
"""
# In place of ExecuTorch's sources: installs the wheel's headers and libraries as ExecuTorch installs its own, under the
# same targets. `quantized_ops_lib` is an archive of one object that nothing refers to, like a kernel library's.
CHECKOUT = """
cmake_minimum_required(VERSION 3.21)
project(executorch LANGUAGES C CXX)
if(NOT EXECUTORCH_ENABLE_EVENT_TRACER OR NOT PRESET_WAS_READ)
  message(FATAL_ERROR "no tracer, or the preset was not read")
endif()
add_library(quantized_ops_lib STATIC registers.cpp)
install(TARGETS quantized_ops_lib DESTINATION lib)
install(DIRECTORY @WHEEL@/include/executorch/extension @WHEEL@/include/executorch/runtime DESTINATION include/executorch)
install(DIRECTORY @WHEEL@/lib/ DESTINATION lib FILES_MATCHING PATTERN "*.so")
install(FILES executorch-config.cmake DESTINATION lib/cmake/ExecuTorch)
"""
CONFIG = """
set(root "${CMAKE_CURRENT_LIST_DIR}/../../..")
macro(shared name file)
  add_library(${name} SHARED IMPORTED)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION "${root}/lib/libexecutorch${file}.so")
endmacro()
shared(executorch "")
shared(extension_threadpool _threadpool)
shared(optimized_native_cpu_ops_lib _kernels_optimized)
shared(xnnpack_backend _backend_xnnpack)
shared(etdump _etdump)
add_library(extension_module_static INTERFACE IMPORTED)
add_library(extension_tensor INTERFACE IMPORTED)
add_library(quantized_ops_lib STATIC IMPORTED)
set_target_properties(quantized_ops_lib PROPERTIES IMPORTED_LOCATION "${root}/lib/libquantized_ops_lib.a")
"""
REGISTERS = """
#include <cstdio>
static const int registered = std::fprintf(stderr, "kernels registered\\n");
"""


@pytest.fixture
def ndk(tmp_path: Path) -> Path:
    folder = tmp_path / "ndk"
    (folder / "build" / "cmake").mkdir(parents=True)
    (folder / "source.properties").write_text("Pkg.Desc = Android NDK\nPkg.Revision = 28.2.13676358\n")
    (folder / "build" / "cmake" / "android.toolchain.cmake").write_text(TOOLCHAIN)
    (folder / "build" / "cmake" / "liblog.a").write_bytes(b"!<arch>\n")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "executorch"
    xnnpack = folder / "backends" / "xnnpack" / "third-party" / "XNNPACK"
    xnnpack.mkdir(parents=True)
    (xnnpack / "CMakeLists.txt").write_text("")
    (folder / "version.txt").write_text(installed_version() + "\n")
    presets = [
        {"name": f"android-{abi}", "cacheVariables": {"ANDROID_ABI": abi, "PRESET_WAS_READ": "ON"}}
        for abi in ("arm64-v8a", "x86_64")
    ]
    (folder / "CMakePresets.json").write_text(json.dumps({"version": 3, "configurePresets": presets}))
    executorch = installed_executorch()
    (folder / "devtools").symlink_to(executorch / "include" / "executorch" / "devtools")
    (folder / "CMakeLists.txt").write_text(CHECKOUT.replace("@WHEEL@", str(executorch)))
    (folder / "executorch-config.cmake").write_text(CONFIG)
    (folder / "registers.cpp").write_text(REGISTERS)
    return folder


def run_on_reference(command: list[str], bundle: Path, folder: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a built runner once on the bundle's inputs; how far its output is from the reference."""
    folder.mkdir()
    inputs = [part for name in ("image", "scale") for part in ("--input", f"{bundle}/reference/unet.{name}.bin")]
    options = ["--output-dir", str(folder), "--threads", "2", "--warmup", "1", "--iterations", "2"]
    trace = ["--etdump", str(folder / "trace.etdump")]
    arguments = ["--model", str(bundle / "unet.pte"), *inputs, *options, *trace]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["event"] == "done"
    assert (folder / "trace.etdump").stat().st_size > 100
    reference = np.fromfile(bundle / "reference" / "unet.latents.bin", np.float32)
    return result, float(np.abs(np.fromfile(folder / "output_0.bin", np.float32) - reference).max())


@needs_cmake
@only_x86
def test_the_android_build_goes_through(ndk: Path, checkout: Path, bundle: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert find_android_runner("x86_64", cache) is None
    built = build_android("x86_64", checkout, ndk, cache_dir=cache)
    assert built.files == ("runner",) and not built.from_cache and built.size_bytes > 10_000
    assert find_android_runner("x86_64", cache) == built.folder
    assert not list(cache.glob("build-*")) and not list(cache.glob(".tmp-*")), "only what is used is kept"
    record = json.loads((built.folder / "build.json").read_text())
    assert (record["ndk"], record["abi"], record["backends"]) == ("28.2.13676358", "x86_64", ["xnnpack"])

    # Each segment that is loaded begins at a page of 16 KB.
    headers = subprocess.run(["readelf", "-lW", built.folder / "runner"], capture_output=True, text=True).stdout
    loaded = [line.split()[-1] for line in headers.splitlines() if line.split()[:1] == ["LOAD"]]
    assert loaded and set(loaded) == {"0x4000"}, headers

    # The stand-in's libraries are shared, and are where CMake installed them.
    libraries = next(cache.glob("executorch-android-x86_64-*/lib"))
    runner = ["env", f"LD_LIBRARY_PATH={libraries}", str(built.folder / "runner")]
    result, error = run_on_reference(runner, bundle, tmp_path / "out")
    assert error < 1e-5
    assert "kernels registered" in result.stderr, "an archive of kernels was not linked as a whole"

    assert build_android("x86_64", checkout, ndk, cache_dir=cache).from_cache
    deployment = deployment_for(Platform("android", "x86_64"), cache_dir=cache)
    assert deployment.command == ("{files}/runner/runner",)
    assert deployment.files == {"runner": built.folder / "runner"} and deployment.executables == {"runner"}
    assert deployment.versions["ndk"] == "28.2.13676358" and deployment.backends == {"xnnpack"}


@needs_cmake
@only_x86
def test_a_step_that_fails_is_one_line_and_leaves_no_runner(ndk: Path, checkout: Path, tmp_path: Path) -> None:
    (checkout / "executorch-config.cmake").write_text(CONFIG.replace("shared(xnnpack_backend _backend_xnnpack)", ""))
    cache = tmp_path / "cache"
    with pytest.raises(RunnerError, match="runner could not be built: CMake Error.* has no xnnpack_backend") as caught:
        build_android("x86_64", checkout, ndk, cache_dir=cache)
    assert "\n" not in str(caught.value)
    log = re.search(r"all of it: (.*)\)$", str(caught.value))
    assert log and "has no xnnpack_backend" in Path(log[1]).read_text()
    assert find_android_runner("x86_64", cache) is None


@needs_cmake
def test_a_dry_run_tells_the_commands_and_writes_nothing(ndk: Path, checkout: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    built = build_runner_command("arm64-v8a", executorch=checkout, ndk=ndk, cache_dir=cache, dry_run=True)
    assert built.dry_run and not cache.exists()
    configure, build, configure_runner, build_runner, install = built.commands
    assert configure[configure.index("--preset") + 1] == configure_runner[configure_runner.index("--preset") + 1]
    assert configure[configure.index("--preset") + 1] == "android-arm64-v8a"
    for command in (configure, configure_runner):
        assert f"-DCMAKE_TOOLCHAIN_FILE={ndk}/build/cmake/android.toolchain.cmake" in command
    assert {f"-D{name}={value}" for name, value in OPTIONS.items()} <= set(configure)
    assert "-DEXECUTORCH_BUILD_VULKAN=OFF" in configure
    # Android's preset has the first one on, the wheel has not.
    assert "-DEXECUTORCH_XNNPACK_ENABLE_WEIGHT_CACHE=OFF" in configure
    assert "-DEXECUTORCH_XNNPACK_SHARED_WORKSPACE=ON" in configure
    prefix = next(part for part in configure if part.startswith("-DCMAKE_INSTALL_PREFIX="))
    assert "-DEXECUTORCH_DIR=" + prefix.partition("=")[2] in configure_runner
    assert build[-2:] == ("--target", "install") and str(built.folder) in install and "--build" in build_runner
    text = "\n".join(describe_built(built))
    assert text.count("cmake") >= 5 and f"would make {built.folder}" in text

    other = build_android("arm64-v8a", checkout, ndk, vulkan=True, cache_dir=cache, dry_run=True)
    assert "-DMOBILEVD_VULKAN=ON" in other.commands[2] and other.folder != built.folder


@needs_cmake
def test_what_an_android_build_lacks_is_named(ndk: Path, checkout: Path, tmp_path: Path) -> None:
    def refused(text: str, abi: str = "arm64-v8a", executorch: Path = checkout, kit: Path = ndk) -> None:
        with pytest.raises(RunnerError, match=text) as caught:
            build_android(abi, executorch, kit, cache_dir=tmp_path / "cache", dry_run=True)
        assert "\n" not in str(caught.value)

    refused("unknown abi 'arm64'; known: arm64-v8a", abi="arm64")
    refused("has no preset for armeabi-v7a, only for: arm64-v8a, x86_64", abi="armeabi-v7a")
    refused("no Android NDK, source.properties is missing", kit=tmp_path)
    refused("no checkout of ExecuTorch with version.txt", executorch=tmp_path)
    renamed = tmp_path / "et"
    shutil.copytree(checkout, renamed, symlinks=True)
    refused("must be executorch", executorch=renamed)
    (ndk / "source.properties").write_text("Pkg.Revision = 21.4.7075529\n")
    refused("NDK 21.4.7075529 is too old")
    (ndk / "source.properties").write_text("Pkg.Revision = 28.0.1\n")
    shutil.rmtree(checkout / "backends")
    refused("submodule update --init --recursive")


@needs_cmake
def test_versions_that_do_not_go_together_are_noted(ndk: Path, checkout: Path, tmp_path: Path) -> None:
    (checkout / "version.txt").write_text("0.7.0\n")
    (ndk / "source.properties").write_text("Pkg.Revision = 26.3.1\n")
    built = build_android("arm64-v8a", checkout, ndk, cache_dir=tmp_path / "cache", dry_run=True)
    assert len(built.notes) == 1, "an older NDK needs no note"
    assert any("ExecuTorch 0.7.0 builds the runner, but programs are exported with" in note for note in built.notes)


def test_without_cmake_the_android_build_says_so(
    ndk: Path, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunnerError, match=r"cmake \(3.25 or newer\) is not on PATH"):
        build_android("arm64-v8a", checkout, ndk, cache_dir=tmp_path / "cache", dry_run=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"abi": "arm64-v8a"}, "needs --executorch DIR"),
        ({"abi": "arm64-v8a", "executorch": "somewhere"}, r"needs --ndk DIR \(or \$ANDROID_NDK\)"),
        ({"abi": "host", "glibc": True}, "--glibc needs the processor"),
        ({"abi": "host", "ndk": "somewhere"}, "--ndk is not for a runner of this kind"),
        ({"abi": "arm64-v8a", "glibc": True, "executorch": "somewhere"}, "--executorch is not for"),
        ({"abi": "arm64-v8a", "wheel": "some.whl"}, "--wheel is not for"),
        ({"abi": "x86_64", "glibc": True, "vulkan": True}, "--vulkan is for"),
        ({"abi": "mips"}, "unknown abi 'mips'; known: arm64-v8a, .*host for this machine"),
        ({"abi": "mips", "glibc": True}, "unknown abi 'mips' for a glibc runner; known: x86_64, arm64-v8a"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ANDROID_NDK", "ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RunnerError, match=text):
        build_runner_command(**options, cache_dir=tmp_path)


def test_a_runner_that_was_not_built_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        RunnerError, match=r"mobilevd build-runner --abi arm64-v8a --executorch DIR --ndk DIR .*--glibc"
    ):
        deployment_for(Platform("android", "arm64-v8a"), cache_dir=tmp_path)
    other = "arm64-v8a" if host_abi() == "x86_64" else "x86_64"
    with pytest.raises(RunnerError, match=f"mobilevd build-runner --abi {other} --glibc"):
        deployment_for(Platform("linux", other), cache_dir=tmp_path)
    with pytest.raises(RunnerError, match="there is no glibc runner for riscv64"):
        deployment_for(Platform("linux", "riscv64"), cache_dir=tmp_path)
    with pytest.raises(RunnerError, match="unknown kind of runner 'musl'; known: host, ndk, glibc"):
        deployment_for(Platform("linux", "x86_64"), "musl")
    with pytest.raises(RunnerError, match="of the kind ndk does not run on linux, only on android"):
        deployment_for(Platform("linux", "x86_64"), "ndk")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for the glibc runner of this machine: empty until a test builds it."""
    return tmp_path_factory.mktemp("glibc-cache")


@pytest.mark.skipif(host_abi() not in ("x86_64", "arm64-v8a"), reason="no wheel for this processor")
def test_the_glibc_runner_needs_nothing_of_the_system(bundle: Path, cache: Path, tmp_path: Path) -> None:
    """It runs with its own loader and libraries; where this test may, in a root that holds nothing else."""
    abi = host_abi()
    deployment = deployment_for(Platform("linux", abi), cache_dir=cache)
    built = build_glibc(abi, cache_dir=cache)
    assert built.from_cache and find_glibc_runner(abi, cache) == built.folder
    loader = next(name for name in built.files if name.startswith("ld-linux"))
    place = "{files}/runner"
    assert deployment.command == (f"{place}/{loader}", "--library-path", place, f"{place}/runner")
    assert deployment.executables == {"runner", loader} and set(deployment.files) == set(built.files)
    assert {"libc.so.6", "libstdc++.so.6", "libexecutorch_etdump.so", "libexecutorch_backend_xnnpack.so"} <= {
        *built.files
    }
    assert deployment.versions["libc"].startswith("glibc 2.")

    folder = str(built.folder)
    loaded = subprocess.run(
        [f"{folder}/{loader}", "--library-path", folder, "--list", f"{folder}/runner"],
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    outside = [line for line in loaded.splitlines() if "=>" in line and f"=> {folder}/" not in line]
    assert not outside, "libraries of the system are used"
    _, error = run_on_reference(
        [f"{folder}/{loader}", "--library-path", folder, f"{folder}/runner"], bundle, tmp_path / "out"
    )
    assert error < 1e-5


def test_an_empty_root_is_enough(bundle: Path, cache: Path, tmp_path: Path) -> None:
    if host_abi() != "x86_64":
        pytest.skip("made for x86_64")
    probe = ["unshare", "-U", "-r", "-m", "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode != 0:
        pytest.skip("no user namespaces here")
    built = build_glibc("x86_64", cache_dir=cache)
    root = tmp_path / "root"
    for name in ("proc", "sys", "out"):
        (root / name).mkdir(parents=True)
    shutil.copytree(built.folder, root / "runner")
    shutil.copytree(bundle, root / "bundle")
    inside = (
        "/runner/ld-linux-x86-64.so.2 --library-path /runner /runner/runner --model /bundle/unet.pte "
        "--input /bundle/reference/unet.image.bin --input /bundle/reference/unet.scale.bin --output-dir /out "
        "--threads 2 --warmup 0 --iterations 1"
    )
    # XNNPACK reads the processor from /proc and /sys.
    script = f'cd "$1" && mount --rbind /proc proc && mount --rbind /sys sys && exec chroot . {inside}'
    command = ["unshare", "-U", "-r", "-m", "sh", "-c", script, "sh", str(root)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    reference = np.fromfile(bundle / "reference" / "unet.latents.bin", np.float32)
    assert np.abs(np.fromfile(root / "out" / "output_0.bin", np.float32) - reference).max() < 1e-5


def test_arm64_runs_under_emulation(bundle: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Right values only: times of an emulated processor are no latencies."""
    if host_abi() == "arm64-v8a":
        pytest.skip("this is arm64: nothing is emulated")
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("qemu-aarch64-static is not installed")
    cache = request.getfixturevalue("arm64_cache")
    built = build_glibc("arm64-v8a", cache_dir=cache)
    folder = str(built.folder)
    command = ["qemu-aarch64-static", f"{folder}/ld-linux-aarch64.so.1", "--library-path", folder, f"{folder}/runner"]
    _, error = run_on_reference(command, bundle, tmp_path / "out")
    assert error < 1e-5
    deployment = deployment_for(Platform("android", "arm64-v8a"), "glibc", cache_dir=cache)
    assert deployment.command[0] == "{files}/runner/ld-linux-aarch64.so.1"


@pytest.fixture
def make_wheel(tmp_path: Path) -> Callable[..., Path]:
    """A wheel of these entries."""

    def make(entries: dict[str, bytes], name: str = "executorch-1.5.1-cp311-cp311-manylinux_2_28_aarch64.whl") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            for entry, content in entries.items():
                info = zipfile.ZipInfo(entry)
                if content == b"link":
                    info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, content)
        return path

    return make


@pytest.mark.parametrize(
    ("entry", "content"),
    [
        ("executorch/lib/../../../outside", b"x"),
        ("/tmp/outside", b"x"),
        ("executorch/lib\\..\\outside", b"x"),
        ("C:/outside", b"x"),
        ("executorch/lib/link.so", b"link"),
    ],
)
def test_no_entry_of_a_wheel_leaves_its_folder(
    make_wheel: Callable[..., Path], tmp_path: Path, entry: str, content: bytes
) -> None:
    bad = make_wheel({"executorch/lib/first.so": b"x", entry: content})
    with pytest.raises(RunnerError, match="outside the folder|is a link"):
        wheel.unpacked_wheel(bad, tmp_path / "cache")
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert left == [], "nothing of a refused wheel is written"


def test_a_wheel_that_does_not_fit_is_refused(make_wheel: Callable[..., Path], tmp_path: Path) -> None:
    def refused(path: Path, text: str) -> None:
        with pytest.raises(RunnerError, match=text):
            build_glibc("arm64-v8a", path, cache_dir=tmp_path / "cache")

    refused(make_wheel({}, "numpy-2.0-cp311-cp311-manylinux_2_28_aarch64.whl"), "not an ExecuTorch wheel")
    refused(make_wheel({}, "executorch-1.5.1-cp311-cp311-manylinux_2_28_x86_64.whl"), "needs one for Linux on aarch64")
    refused(make_wheel({}, "executorch-1.5.1-cp311-cp311-macosx_11_0_arm64.whl"), "needs one for Linux on aarch64")
    refused(tmp_path / "executorch-9.9-cp311-cp311-manylinux_2_28_aarch64.whl", "cannot be read")
    refused(make_wheel({"executorch/lib/a.so": b"x"}), "module.h: missing")
    broken = tmp_path / "executorch-1.5.2-cp311-cp311-manylinux_2_28_aarch64.whl"
    broken.write_bytes(b"PK no archive")
    refused(broken, "not an intact wheel")

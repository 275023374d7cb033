"""The command line. Heavy imports stay inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from device_runner.errors import RunnerError
from mobilevd import __version__
from mobilevd.errors import ToldByAnother, UserError
from mobilevd.hush import hush
from mobilevd.once_among_processes import is_mine_to_tell, lost_process

if TYPE_CHECKING:
    from mobilevd.config.schema import RunConfig

USER_MISTAKE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count
UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h


class CommandGroup(TyperGroup):
    """Turns a user's mistake into one red line and exit code 2, and Ctrl-C into a word on how to go on."""

    def invoke(self, ctx: Any) -> Any:
        hush()
        try:
            return super().invoke(ctx)
        except (UserError, RunnerError) as error:
            if isinstance(error, ToldByAnother):
                time.sleep(1)  # the launcher ends the others with the first that ends: let the one that tells be first
            elif is_mine_to_tell(str(error)):
                _complain(str(error))
            else:
                time.sleep(1)
            raise typer.Exit(USER_MISTAKE) from None
        except KeyboardInterrupt:
            if is_mine_to_tell("stopped"):
                typer.echo("\nstopped; give the same command again to go on", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise  # `| head`: typer ends quietly
        except Exception as error:
            if ctx.params.get("traceback") or type(error).__module__.partition(".")[0] in ("typer", "click"):
                raise  # theirs: wrong options, and exit codes
            if lost := lost_process(error):
                if is_mine_to_tell(lost):
                    _complain(lost)
                raise typer.Exit(UNEXPECTED) from None
            told = (str(error).strip() or "no message").splitlines()[0]
            _complain(
                f"an error that should not be: {type(error).__name__}: {told[:500]}; "
                "the same command as `mobilevd --traceback ...` shows where"
            )
            raise typer.Exit(UNEXPECTED) from None


class WithLists(TyperCommand):
    """A command whose repeatable options take several values after one name: `--baseline A B`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {name for each in self.params if each.multiple for name in each.opts if name.startswith("--")}
        spread: list[str] = []
        name, values = "", 0
        for word in args:
            if word.startswith("-"):
                name, values = word, 0
            elif name in lists:
                values += 1
                if values > 1:
                    spread.append(name)
            spread.append(word)
        return super().parse_args(ctx, spread)


def _complain(text: str) -> None:
    from rich.text import Text

    from mobilevd.terminal import TerminalConsole

    first, *more = text.splitlines() or [""]
    # A name in it may hold a line end: what follows is set in, so that it is no line of its own.
    # soft_wrap: a terminal may wrap the line, but a log file keeps one problem on one line.
    told = "\n".join([first, *(f"  {line}" for line in more)])
    TerminalConsole(stderr=True).print(Text(told, style="red"), soft_wrap=True)


app = typer.Typer(
    cls=CommandGroup,
    help="Compress an SVD-style image-to-video UNet into a one-step model for phones, and measure it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # plain help: importing rich's markdown would take most of the time of `--help`
)

Trusted = Annotated[
    str | None,
    typer.Option(
        "--trust-torchscript",
        help="SHA-256 of an I3D file to load though it is not the published one: code in it runs.",
        metavar="SHA256",
    ),
]
Config = Annotated[Path, typer.Argument(help="YAML file, such as configs/tiny.yaml.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Values to change, such as seed=1 or stages.funnels.training.steps=5.", metavar="KEY=VALUE"),
]
Json = Annotated[
    Path | None, typer.Option("--json", help="Also write the result as JSON to this file.", metavar="FILE")
]


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mobilevd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an unexpected error comes from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Compress an SVD-style image-to-video UNet into a one-step model for phones, and measure it."""


def _check_quickly(config: RunConfig, for_training: bool = False) -> None:
    """Raise UserError for what a run would stumble over, before imports that take seconds."""
    from mobilevd.quick_checks import check_quickly

    check_quickly(config, for_training)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write them into; new or there.", metavar="DIR")],
    model: Annotated[
        Path | None, typer.Option(help="Your SVD checkpoint in the layout of diffusers, to fill in.", metavar="FOLDER")
    ] = None,
    videos: Annotated[
        str | None, typer.Option(help="Your videos, to fill in: a folder, a manifest, tar shards.", metavar="VIDEOS")
    ] = None,
) -> None:
    """Write configurations to start from: two tiny ones, and a commented one for your own model and videos."""
    from mobilevd.commands.init import init_command

    init_command(folder, model, videos)


@app.command()
def run(
    config: Config,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the resolved configuration and the plan, check every stage's sizes, and do nothing.",
        ),
    ] = False,
    from_stage: Annotated[
        str | None,
        typer.Option("--from", help="Make this stage and those after it anew; the earlier ones stay.", metavar="STAGE"),
    ] = None,
    trusted: Trusted = None,
) -> None:
    """Run everything: all stages, export, measurement and the table.

    The same command resumes a run that was interrupted.
    """
    from mobilevd.config import find_stage, load_config

    resolved = load_config(config, overrides or [])
    if from_stage is not None:
        find_stage(resolved, from_stage)
    if dry_run:
        from mobilevd.commands.dry_run import dry_run_command

        dry_run_command(resolved, trusted, from_stage)
        from mobilevd.commands.next_step import after_preparing, tell_next

        tell_next(after_preparing(config, overrides, from_stage))
        return
    _check_quickly(resolved)
    from mobilevd.pipeline import run as run_pipeline
    from mobilevd.terminal import TerminalConsole

    run_pipeline(resolved, TerminalConsole(), trusted, from_stage)
    from mobilevd.commands.next_step import after_run, tell_next

    tell_next(after_run(resolved))


@app.command()
def train(
    stage: Annotated[str, typer.Argument(help="Name of a stage in the configuration.")],
    config: Config,
    overrides: Overrides = None,
) -> None:
    """Train one stage. The stages before it must be finished."""
    from mobilevd.config import find_stage, load_config

    resolved = load_config(config, overrides or [])
    find_stage(resolved, stage)
    _check_quickly(resolved, for_training=True)
    from mobilevd.pipeline import train_stage

    train_stage(resolved, stage)
    from mobilevd.commands.next_step import after_preparing, tell_next

    tell_next(after_preparing(config, overrides))


@app.command()
def cache(
    config: Annotated[
        Path | None, typer.Argument(help="YAML file, such as configs/tiny.yaml.", metavar="CONFIG")
    ] = None,
    overrides: Overrides = None,
    listed: Annotated[
        bool, typer.Option("--list", help="List what was built to measure with, and where; no CONFIG.")
    ] = False,
    clean: Annotated[bool, typer.Option("--clean", help="Remove that; no CONFIG.")] = False,
) -> None:
    """Read the videos and encode the training clips ahead of training; or list or remove what was built to measure with."""
    if listed or clean:
        from mobilevd.commands.cache import cache_command

        cache_command(config, listed, clean)
        return
    if config is None:
        raise UserError("cache: no CONFIG; give the configuration whose clips to encode, or --list or --clean")
    from mobilevd.config import load_config

    resolved = load_config(config, overrides or [])
    _check_quickly(resolved, for_training=True)
    from mobilevd.pipeline import cache as cache_latents

    cache_latents(resolved)
    from mobilevd.commands.next_step import after_preparing, tell_next

    tell_next(after_preparing(config, overrides))


@app.command()
def flops(
    model: Annotated[
        Path | None, typer.Option(help="Folder of your own model to count, in place of the paper's models.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="With --model: number of frames.  [default: the model's]")] = None,
    height: Annotated[int | None, typer.Option(help="With --model: size in latents.  [default: the model's]")] = None,
    width: Annotated[int | None, typer.Option(help="With --model: size in latents.  [default: the model's]")] = None,
    json: Json = None,
) -> None:
    """Count parameters and TFLOPs of the paper's models, beside the published figures, or of your own model."""
    from mobilevd.commands.early import check_early

    check_early(model)
    from mobilevd.commands.flops import flops_command
    from mobilevd.terminal import TerminalConsole

    flops_command(model, json, TerminalConsole(), frames, height, width)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Folder of a finished model, such as runs/tiny/07-funnels/model.")],
    out: Annotated[
        Path, typer.Option(help="Bundle folder to write; with several targets, the folder of their bundles.")
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Runtime and backend, as NAME or NAME:PRECISION, the first precision being the default: "
            "executorch-xnnpack (fp32, fp16, int8, 8da8w, 8da4w), executorch-coreml (fp16, fp32), executorch-vulkan (fp32, "
            "fp16), executorch-qnn (fp16), coreml (fp16, fp32, palettized6, palettized4, int8), onnx (fp32, fp16, int8). "
            "Repeatable.  [default: executorch-xnnpack]",
            metavar="TARGET",
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Precision for targets given without one.  [default: the target's first]")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Number of frames.  [default: the model's]")] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels.  [default: the model's, or 256]")] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels.  [default: the model's, or 512]")] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Noise level that the one step starts from.  [default: the model's, or 700]")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames per second that the model is conditioned on.  [default: the model's, or 7]"),
    ] = None,
    motion_bucket: Annotated[
        float | None,
        typer.Option(help="Motion bucket that the model is conditioned on.  [default: the model's, or 127]"),
    ] = None,
    one_step: Annotated[
        bool, typer.Option("--one-step", help="Export a model of several steps all the same, to run it once.")
    ] = False,
    conditioning_inputs: Annotated[
        bool,
        typer.Option(
            "--conditioning-inputs", help="Keep fps and motion bucket as inputs of the program, instead of constants."
        ),
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="Pictures or videos for the parity check and calibration.  [default: the run's]")
    ] = None,
    codec: Annotated[Path | None, typer.Option(help="Codec folder.  [default: the model's]")] = None,
    unet_only: Annotated[
        bool, typer.Option("--unet-only", help="Export the UNet only, without the codec's programs.")
    ] = False,
    decoder: Annotated[
        str, typer.Option(help="The codec's own, or tiny:FOLDER with an AutoencoderTiny such as TAESD.")
    ] = "own",
    frames_per_chunk: Annotated[
        int | None,
        typer.Option(min=1, help="Frames decoded together.  [default: 2 for SVD's temporal decoder, else 1]"),
    ] = None,
    min_psnr: Annotated[
        float | None,
        typer.Option(help="Mix precisions: keep sensitive blocks higher until the output reaches this PSNR in dB."),
    ] = None,
    max_size_mb: Annotated[
        float | None, typer.Option(help="Mix precisions: the most exact program of at most this size in MB.")
    ] = None,
    allow_low_parity: Annotated[
        bool, typer.Option("--allow-low-parity", help="Write bundles even if their outputs fail the parity check.")
    ] = False,
) -> None:
    """Export a one-step model to bundles for devices, and prove each against the model."""
    from mobilevd.commands.early import check_early

    check_early(model)
    from mobilevd.commands.export import export_command

    manifests = export_command(
        model,
        out,
        targets=target or ["executorch-xnnpack"],
        precision=precision,
        conditioning={
            "num_frames": frames,
            "sigma": sigma,
            "fps": fps,
            "motion_bucket_id": motion_bucket,
            "conditioning_inputs": conditioning_inputs or None,
        },
        size=(height, width),
        one_step=one_step,
        images=images,
        codec_folder=codec,
        unet_only=unet_only,
        decoder=decoder,
        frames_per_chunk=frames_per_chunk,
        min_psnr=min_psnr,
        max_size_mb=max_size_mb,
        allow_low_parity=allow_low_parity,
    )
    from mobilevd.commands.next_step import after_export, tell_next

    tell_next(after_export(out, manifests))


@app.command()
def ladder(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    stage: Annotated[str | None, typer.Option(help="Name of a one-step stage.  [default: the last one]")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Target as NAME:PRECISION. Repeatable.  [default: executorch-xnnpack in every precision]",
            metavar="TARGET",
        ),
    ] = None,
    trusted: Trusted = None,
) -> None:
    """Export a stage in every precision, and compare size, parity, distance and host latency."""
    from mobilevd.commands.early import check_run_early

    check_run_early(run_folder)
    from mobilevd.commands.ladder import TARGETS, measure_ladder

    measured = measure_ladder(run_folder, stage, target or TARGETS, trusted=trusted)
    from mobilevd.commands.next_step import after_ladder, tell_next

    tell_next(after_ladder(run_folder, measured["stage"]))


@app.command()
def bench(
    bundle: Annotated[
        list[Path] | None, typer.Argument(help="Folders of one or more bundles.", metavar="BUNDLE")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="host, adb (the only phone), adb:SERIAL, iphone or all (every phone on adb). Repeatable.  [default: host]",
            metavar="DEVICE",
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="Measuring protocol: default, quick, thorough, mlperf-single-stream or sustained.")
    ] = "default",
    program: Annotated[
        list[str] | None,
        typer.Option(help="Program of the bundle to measure. Repeatable.  [default: all]", metavar="NAME"),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Number of threads of the runtime.  [default: 2]")] = None,
    cpu_mask: Annotated[
        str | None, typer.Option(help="Cores to run on, as a hexadecimal mask: f0 is cores 4 to 7.  [default: all]")
    ] = None,
    load_mode: Annotated[
        str | None, typer.Option(help="How the program file is loaded: mmap or file.  [default: mmap]")
    ] = None,
    weight_cache: Annotated[
        str | None,
        typer.Option(
            help="XNNPACK's cache of packed weights: on, as in ExecuTorch's builds for Android and Apple, or off.  "
            "[default: off]",
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="Method of the program to run.  [default: the manifest's]")] = None,
    warmup: Annotated[int | None, typer.Option(help="Number of warm-up runs.  [default: the protocol's]")] = None,
    iterations: Annotated[int | None, typer.Option(help="Number of timed runs.  [default: the protocol's]")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="With --protocol sustained: how long it runs, in minutes.  [default: 5]")
    ] = None,
    max_battery: Annotated[
        float | None, typer.Option(help="Wait until the battery has at most this temperature, in degrees Celsius.")
    ] = None,
    gate_timeout: Annotated[float | None, typer.Option(help="Seconds to wait for the battery to cool down.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Time limit for one program, in seconds.")] = None,
    runner: Annotated[
        str | None,
        typer.Option(help="Runner of the programs, as NAME or NAME:PATH.  [default: the one for the bundle's target]"),
    ] = None,
    adb: Annotated[
        str | None,
        typer.Option(help="Path of the adb program.  [default: $ADB, PATH, the SDK, adbutils, in this order]"),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also trace three runs, for the time per block and operator.")
    ] = False,
    blocks: Annotated[
        Path | None, typer.Option(help="Measure each block of this model folder, in place of bundles.", metavar="MODEL")
    ] = None,
    predict: Annotated[
        Path | None,
        typer.Option(
            help="With --blocks: predict the latency from this saved table, and measure nothing.", metavar="FILE"
        ),
    ] = None,
    json: Json = None,
    csv: Annotated[
        Path | None, typer.Option(help="Also write one row per measurement to this file.", metavar="FILE")
    ] = None,
    samples_csv: Annotated[
        Path | None, typer.Option(help="Also write one row per timed run to this file.", metavar="FILE")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write a self-contained page with plots to this file.", metavar="FILE")
    ] = None,
) -> None:
    """Measure the latency of exported programs on this host or on phones, and check their outputs."""
    from mobilevd.commands.bench import BenchFiles, bench_blocks, bench_bundles, choose_protocol

    if predict is not None and blocks is None:
        raise UserError("--predict goes with --blocks MODEL: the model whose latency is predicted")

    settings = {
        "threads": threads,
        "cpu_mask": cpu_mask,
        "load_mode": load_mode,
        "weight_cache": weight_cache,
        "warmup": warmup,
        "iterations": iterations,
        "max_battery_c": max_battery,
        "gate_timeout_s": gate_timeout,
        "timeout_s": timeout,
    }
    chosen = choose_protocol(protocol, minutes, settings)
    devices = device or ["host"]
    if blocks is not None:
        if bundle or profile or csv or samples_csv or html or program or runner or method:
            raise UserError("--blocks goes with --device, the protocol's options, --adb, --json and --predict only")
        from mobilevd.commands.early import check_early

        check_early(blocks)
        bench_blocks(blocks, devices, chosen, adb, json, predict)
        return
    if not bundle:
        raise UserError("give the folder of a bundle (`mobilevd export` writes one), or --blocks MODEL")
    files = BenchFiles(json, csv, samples_csv, html)
    code = bench_bundles(bundle, devices, chosen, program or [], runner, method, adb, profile, files)
    if code:
        raise typer.Exit(code)
    from mobilevd.commands.next_step import after_bench, tell_next

    tell_next(after_bench(json))


@app.command(cls=WithLists)
def compare(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Two results of `mobilevd bench --json`: before the change, and after.", metavar="A.json B.json"
        ),
    ] = None,
    baseline: Annotated[
        list[Path] | None, typer.Option(help="Results of several runs before the change.", metavar="A.json ...")
    ] = None,
    candidate: Annotated[
        list[Path] | None, typer.Option(help="Results of several runs after it.", metavar="B.json ...")
    ] = None,
    threshold: Annotated[str, typer.Option(help="Smallest slowdown that counts as a regression.")] = "5%",
    different_devices: Annotated[
        bool, typer.Option("--different-devices", help="Compare results of different devices.")
    ] = False,
    json: Json = None,
) -> None:
    """Compare results by their raw samples, or several runs a side by the spread between them.

    Exit codes: 0 nothing became slower, 1 something did, 2 a mistake in the command, 3 too few samples to tell.
    """
    from mobilevd.commands.compare import compare_files

    before, after = baseline or [], candidate or []
    if files:
        if before or after or len(files) != 2:
            raise UserError("compare takes two results, A.json B.json, or --baseline A... and --candidate B...")
        before, after = files[:1], files[1:]
    code = compare_files(before, after, threshold, different_devices, json)
    from mobilevd.commands.next_step import after_compare, tell_next

    tell_next(after_compare(code))
    if code:
        raise typer.Exit(code)


@app.command()
def devices(
    adb: Annotated[
        str | None,
        typer.Option(help="Path of the adb program.  [default: $ADB, PATH, the SDK, adbutils, in this order]"),
    ] = None,
    clean: Annotated[
        str | None, typer.Option(help="Remove everything that mobilevd left on this device.", metavar="SERIAL")
    ] = None,
) -> None:
    """List the phones that adb sees, with model, system and state."""
    from mobilevd.commands.devices import clean_device, list_devices

    if clean is not None:
        clean_device(clean, adb)
    else:
        list_devices(adb)


@app.command("build-runner")
def build_runner(
    abi: Annotated[str, typer.Option(help="arm64-v8a, x86_64, or host (this machine).")] = "arm64-v8a",
    executorch: Annotated[
        Path | None, typer.Option(help="Checkout of ExecuTorch, with its submodules.", metavar="DIR")
    ] = None,
    ndk: Annotated[
        Path | None, typer.Option(help="Folder of the Android NDK.  [default: $ANDROID_NDK]", metavar="DIR")
    ] = None,
    vulkan: Annotated[bool, typer.Option("--vulkan", help="Include the Vulkan backend.")] = False,
    glibc: Annotated[
        bool, typer.Option("--glibc", help="Experimental: bring glibc along from this host, which needs no NDK.")
    ] = False,
    wheel: Annotated[
        Path | None,
        typer.Option(help="With --glibc: ExecuTorch's wheel for the ABI.  [default: pip downloads it]", metavar="FILE"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, and do nothing.")] = False,
) -> None:
    """Build the program that runs models on phones."""
    from mobilevd.commands.build_runner import build_phone_runner

    build_phone_runner(abi, executorch, ndk, vulkan=vulkan, glibc=glibc, wheel=wheel, dry_run=dry_run)
    if not dry_run:
        from mobilevd.commands.next_step import after_build_runner, tell_next

        tell_next(after_build_runner(abi, glibc))


@app.command()
def weights(
    name: Annotated[str | None, typer.Argument(help="Which to download.  [default: list them]")] = None,
    to: Annotated[Path, typer.Option(help="Folder to write the file into.", metavar="DIR")] = Path("weights"),
) -> None:
    """List or download the published networks that distances by protocol need (evaluate --protocol)."""
    from mobilevd.commands.weights import weights_command

    weights_command(name, to)


@app.command()
def evaluate(
    generated: Annotated[
        Path, typer.Option(help="Generated videos: a folder, searched at any depth, a manifest or tar shards.")
    ],
    reference: Annotated[
        Path | None, typer.Option(help="Real videos.  [may be left out if --reference-features exists]")
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(help="Some of distance, motion, psnr, ssim, lpips, fid, warping, flicker.", metavar="NAME,NAME"),
    ] = "distance,motion",
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="Protocol of the distance: stylegan-v, videogpt, common-metrics, common-metrics-styleganv, cd-fvd-i3d, "
            "cd-fvd-videomae, google, jedi, mobilevd-7fps, mobilevd-25fps, motion, or a YAML file; may be given several "
            "times.  [default: motion]",
            metavar="NAME",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="The protocol's network: its file, or a folder of files by their published names."),
    ] = None,
    features: Annotated[
        str,
        typer.Option(help="Protocol and weights in one: motion, motion:FOLDER, i3d:FILE (stylegan-v) or NAME:FILE."),
    ] = "motion",
    frames: Annotated[
        int | None,
        typer.Option(
            "--num-frames", "--frames", help="Number of frames compared.  [default: the first generated video's]"
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second compared.  [default: the first generated video's]")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Size compared.  [default: the first generated video's]", metavar="WxH")
    ] = None,
    clips_per_video: Annotated[
        str, typer.Option(help="Clips of each video that do not overlap: a number, or all.", metavar="N|all")
    ] = "1",
    sampling: Annotated[str, typer.Option(help="Which clips of a video: the first, or random ones.")] = "first",
    seed: Annotated[int, typer.Option(help="Seed of the random clips.")] = 0,
    paired: Annotated[
        bool,
        typer.Option(
            "--paired", help="Fail unless every generated video has a reference of its name.  [default: pair if so]"
        ),
    ] = False,
    max_broken: Annotated[
        str,
        typer.Option(
            help="Unreadable videos of a folder that are left out: a number, or a share of at least one video.",
            metavar="N|P%",
        ),
    ] = "10%",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Clips in a batch of the network.")] = 8,
    fid_network: Annotated[
        str | None, typer.Option(help="Image network of fid: TorchScript FILE, or torchvision:NAME:FILE.")
    ] = None,
    lpips_weights: Annotated[
        Path | None, typer.Option(help="torchvision's AlexNet weights.  [default: in torch hub's folder]")
    ] = None,
    reference_features: Annotated[
        Path | None,
        typer.Option(help="File of the reference's features: read if it is there, else written.", metavar="FILE.npz"),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="File that keeps each clip's features, by the video's content.", metavar="FILE")
    ] = None,
    per_clip: Annotated[
        Path | None, typer.Option(help="Also write a line per clip: figures, outlier score.", metavar="FILE.csv")
    ] = None,
    json: Json = None,
    trusted: Trusted = None,
    trusted_fid: Annotated[
        str | None,
        typer.Option("--trust-fid-network", help="SHA-256 of a TorchScript file of --fid-network.", metavar="SHA256"),
    ] = None,
) -> None:
    """Compare generated videos with real ones. What cannot be read, or is too short, is left out and told."""
    from mobilevd.commands.evaluate_settings import (
        EvaluateSettings,
        parse_max_broken,
        parse_metrics,
        parse_per_video,
        parse_size,
    )

    settings = EvaluateSettings(
        metrics=parse_metrics(metrics),
        protocols=tuple(protocol or ()),
        weights=weights,
        features=features,
        num_frames=frames,
        fps=fps,
        size=parse_size(size),
        per_video=parse_per_video(clips_per_video),
        sampling=sampling,
        seed=seed,
        max_broken=parse_max_broken(max_broken),
        paired=paired,
        device=device,
        batch_size=batch_size,
        fid_network=fid_network,
        lpips_weights=lpips_weights,
        trusted=trusted,
        trusted_fid=trusted_fid,
    )
    from mobilevd.commands.early import check_videos_early

    check_videos_early((generated, reference), settings.protocols, features)
    settings.check()
    from mobilevd.commands.evaluate import evaluate_command

    evaluate_command(
        generated,
        reference,
        settings,
        json=json,
        per_clip=per_clip,
        reference_features=reference_features,
        cache=cache,
    )


@app.command()
def generate(
    image: Annotated[Path, typer.Option(help="Picture to animate.")],
    out: Annotated[Path, typer.Option(help="Video file to write.")],
    model: Annotated[Path | None, typer.Option(help="Model folder, to run in PyTorch.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle folder, whose exported programs run on this host.")
    ] = None,
    codec: Annotated[Path | None, typer.Option(help="Codec folder.  [default: the run's]")] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Number of sampling steps; 1 is one-step generation.  [default: the run's, or 25]"),
    ] = None,
    height: Annotated[int | None, typer.Option(help="Size in pixels.  [default: the model's]")] = None,
    width: Annotated[int | None, typer.Option(help="Size in pixels.  [default: the model's]")] = None,
    frames_per_chunk: Annotated[
        int | None, typer.Option(min=1, help="Frames decoded together.  [default: the whole clip]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    loop: Annotated[int, typer.Option(min=1, help="Times that the file plays the clip.", metavar="N")] = 1,
    boomerang: Annotated[
        bool, typer.Option("--boomerang", help="Play the clip forwards and then backwards, each time of --loop.")
    ] = False,
) -> None:
    """Animate a picture, with a model or with an exported bundle."""
    from mobilevd.commands.early import check_early

    check_early(model, image)
    from mobilevd.commands.generate import generate_command

    generate_command(
        image,
        out,
        model=model,
        bundle=bundle,
        codec=codec,
        steps=steps,
        height=height,
        width=width,
        frames_per_chunk=frames_per_chunk,
        seed=seed,
        loop=loop,
        boomerang=boomerang,
    )
    from mobilevd.commands.next_step import after_generate, tell_next

    tell_next(after_generate(model, bundle))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.", metavar="RUN...")],
    out: Annotated[
        Path | None, typer.Option(help="File of the page; default: report.html in the run, or here for several runs.")
    ] = None,
) -> None:
    """Print the tables of finished runs, and write the page that shows them: clips, plots, curves, raw data."""
    from mobilevd.commands.report import report_command

    report_command(runs, out)


@app.command()
def doctor() -> None:
    """Check this machine for what a run needs. The exit code is 1 if something is missing."""
    from mobilevd.commands.doctor import doctor_command
    from mobilevd.terminal import TerminalConsole

    if not doctor_command(TerminalConsole()):
        raise typer.Exit(1)
    from mobilevd.commands.next_step import after_doctor, tell_next

    tell_next(after_doctor())


def main() -> None:
    """The entry point of `mobilevd`."""
    sys.exit(app())

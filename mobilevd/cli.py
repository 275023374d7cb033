"""The command line. Heavy imports stay inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from device_runner.errors import RunnerError
from mobilevd.errors import UserError

USER_MISTAKE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count


class CommandGroup(TyperGroup):
    """Turns a user's mistake into one red line and exit code 2, and Ctrl-C into a word on how to go on."""

    def invoke(self, ctx: Any) -> Any:
        _hush()
        try:
            return super().invoke(ctx)
        except (UserError, RunnerError) as error:
            _complain(str(error))
            raise typer.Exit(USER_MISTAKE) from None
        except KeyboardInterrupt:
            typer.echo("\nstopped; give the same command again to go on", err=True)
            raise typer.Exit(INTERRUPTED) from None


def _hush() -> None:
    """Keep libraries' remarks to their own developers, made while they are imported, off the user's terminal."""
    import logging
    import warnings

    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.|copyreg")
    for name in ("torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _complain(text: str) -> None:
    from rich.console import Console
    from rich.text import Text

    # soft_wrap: a terminal may wrap the line, but a log file keeps one problem on one line.
    Console(stderr=True).print(Text(text, style="red"), soft_wrap=True)


app = typer.Typer(
    cls=CommandGroup,
    help="Compress an SVD-style image-to-video UNet into a one-step model for phones, and measure it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich's markdown would take most of the time of `--help`
)

Config = Annotated[Path, typer.Argument(help="YAML file, such as configs/tiny.yaml.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Values to change: training.steps=10 stages.base.training.steps=5", metavar="KEY=VALUE"),
]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result here.", metavar="FILE")]


@app.command()
def run(
    config: Config,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print config and plan, and stop.")] = False,
) -> None:
    """Do everything: all stages, export, measurement and the table. The same command again goes on."""
    from mobilevd.config import describe_plan, load_config

    resolved = load_config(config, overrides or [])
    if dry_run:
        typer.echo(describe_plan(resolved))
        return
    from rich.console import Console

    from mobilevd.pipeline import run as run_pipeline

    run_pipeline(resolved, Console())


@app.command()
def train(
    stage: Annotated[str, typer.Argument(help="Name of a stage in the config.")],
    config: Config,
    overrides: Overrides = None,
) -> None:
    """Train one stage; the stages before it must be there."""
    from mobilevd.config import find_stage, load_config

    resolved = load_config(config, overrides or [])
    find_stage(resolved, stage)
    from mobilevd.pipeline import train_stage

    train_stage(resolved, stage)


@app.command()
def cache(config: Config, overrides: Overrides = None) -> None:
    """Read the videos and encode the training clips, so that training starts at once."""
    from mobilevd.config import load_config

    resolved = load_config(config, overrides or [])
    from mobilevd.pipeline import cache as cache_latents

    cache_latents(resolved)


@app.command()
def flops(
    model: Annotated[Path | None, typer.Option(help="Count this model folder, not the paper's.")] = None,
    frames: Annotated[int | None, typer.Option(help="With --model: frames; else its own.")] = None,
    height: Annotated[int | None, typer.Option(help="With --model: in latents; else its own.")] = None,
    width: Annotated[int | None, typer.Option(help="With --model: in latents; else its own.")] = None,
    json: Json = None,
) -> None:
    """Parameters and TFLOPs of the paper's models beside the published figures, or of your own model."""
    from rich.console import Console

    from mobilevd.commands.flops import flops_command

    flops_command(model, json, Console(), frames, height, width)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    out: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    target: Annotated[
        list[str] | None,
        typer.Option(help="Runtime and backend, NAME or NAME:PRECISION; may be repeated.", metavar="TARGET"),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="Of targets that name none; else each target's own.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second the model is conditioned on.")] = None,
    motion_bucket: Annotated[float | None, typer.Option(help="Amount of motion it is conditioned on.")] = None,
    conditioning_inputs: Annotated[
        bool, typer.Option("--conditioning-inputs", help="Keep fps and motion bucket as inputs of the program.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="Pictures or videos to check and calibrate on; a run's model knows its own.")
    ] = None,
    codec: Annotated[Path | None, typer.Option(help="Codec folder; a run's model knows its own.")] = None,
    unet_only: Annotated[bool, typer.Option("--unet-only", help="Leave the codec's programs out.")] = False,
    decoder: Annotated[str, typer.Option(help="own, or tiny:FOLDER (an AutoencoderTiny, such as TAESD).")] = "own",
    frames_per_chunk: Annotated[
        int | None,
        typer.Option(min=1, help="Frames decoded together; else 2 for SVD's temporal decoder, 1 for others."),
    ] = None,
    min_psnr: Annotated[
        float | None, typer.Option(help="Mix precisions: keep the most sensitive blocks higher, to this many dB.")
    ] = None,
    max_size_mb: Annotated[float | None, typer.Option(help="Mix precisions: the best program of this size.")] = None,
    allow_low_parity: Annotated[
        bool, typer.Option("--allow-low-parity", help="Write bundles whose outputs are below their precision's gate.")
    ] = False,
) -> None:
    """Export the one-step generator to bundles for devices."""
    from mobilevd.commands.export import export_command

    export_command(
        model,
        out,
        targets=target or ["executorch-xnnpack"],
        precision=precision,
        conditioning={
            "fps": fps,
            "motion_bucket_id": motion_bucket,
            "conditioning_inputs": conditioning_inputs or None,
        },
        images=images,
        codec_folder=codec,
        unet_only=unet_only,
        decoder=decoder,
        frames_per_chunk=frames_per_chunk,
        min_psnr=min_psnr,
        max_size_mb=max_size_mb,
        allow_low_parity=allow_low_parity,
    )


@app.command()
def ladder(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    stage: Annotated[str | None, typer.Option(help="A one-step stage; else the last.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="NAME:PRECISION; may be repeated; else all of XNNPACK's.", metavar="TARGET")
    ] = None,
) -> None:
    """Export a stage in every precision: size, parity, distance and host latency of each, as table and plot."""
    from mobilevd.commands.ladder import TARGETS, measure_ladder

    measure_ladder(run_folder, stage, target or TARGETS)


@app.command()
def bench(
    bundle: Annotated[list[Path] | None, typer.Argument(help="Bundle folders.", metavar="BUNDLE")] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="host, adb (the one phone), adb:SERIAL, iphone, all (every phone on adb); may be repeated.",
            metavar="DEVICE",
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="default, quick, thorough, mlperf-single-stream or sustained.")
    ] = "default",
    program: Annotated[
        list[str] | None, typer.Option(help="Of the bundle; may be repeated; else all.", metavar="NAME")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Of the runtime; else 2.")] = None,
    cpu_mask: Annotated[str | None, typer.Option(help="Cores to run on, hexadecimal: f0 is cores 4 to 7.")] = None,
    load_mode: Annotated[str | None, typer.Option(help="mmap or file.")] = None,
    method: Annotated[str | None, typer.Option(help="Of the program; else the manifest's.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Runs before the timed ones.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Timed runs.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Of the protocol sustained; else 5.")] = None,
    max_battery: Annotated[float | None, typer.Option(help="Wait until the battery is this cool, Celsius.")] = None,
    gate_timeout: Annotated[float | None, typer.Option(help="Seconds to wait for that.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds for one program.")] = None,
    runner: Annotated[
        str | None, typer.Option(help="What runs the program, NAME or NAME:PATH; else what suits the bundle.")
    ] = None,
    adb: Annotated[str | None, typer.Option(help="The adb program; else $ADB, PATH, the SDK, adbutils.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Also trace a run: time per block and operator.")] = False,
    blocks: Annotated[
        Path | None, typer.Option(help="Instead of bundles: measure each block of this model folder.", metavar="MODEL")
    ] = None,
    predict: Annotated[
        Path | None, typer.Option(help="With --blocks: predict from this saved table, measure nothing.", metavar="FILE")
    ] = None,
    json: Json = None,
    csv: Annotated[Path | None, typer.Option(help="Also write a row per measurement here.", metavar="FILE")] = None,
    samples_csv: Annotated[Path | None, typer.Option(help="Also write a row per timed run.", metavar="FILE")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with plots.", metavar="FILE")] = None,
) -> None:
    """Measure exported programs on this host or on phones, and check their outputs."""
    from mobilevd.commands.bench import BenchFiles, bench_blocks, bench_bundles, choose_protocol

    if predict is not None and blocks is None:
        raise UserError("--predict goes with --blocks MODEL: the model whose latency is predicted")

    settings = {
        "threads": threads,
        "cpu_mask": cpu_mask,
        "load_mode": load_mode,
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
        bench_blocks(blocks, devices, chosen, adb, json, predict)
        return
    if not bundle:
        raise UserError("give the folder of a bundle (`mobilevd export` writes one), or --blocks MODEL")
    files = BenchFiles(json, csv, samples_csv, html)
    code = bench_bundles(bundle, devices, chosen, program or [], runner, method, adb, profile, files)
    if code:
        raise typer.Exit(code)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="JSON file of `mobilevd bench`.", metavar="A.json")],
    after: Annotated[Path, typer.Argument(help="Another one.", metavar="B.json")],
    threshold: Annotated[str, typer.Option(help="Slowdown that counts as a regression.")] = "5%",
    different_devices: Annotated[
        bool, typer.Option("--different-devices", help="Compare although the devices differ.")
    ] = False,
    json: Json = None,
) -> None:
    """Tell whether B is slower than A, from the raw samples. Exit code 1 if it is."""
    from mobilevd.commands.compare import compare_files

    if compare_files(before, after, threshold, different_devices, json):
        raise typer.Exit(1)


@app.command()
def devices(
    adb: Annotated[str | None, typer.Option(help="The adb program; else $ADB, PATH, the SDK, adbutils.")] = None,
    clean: Annotated[str | None, typer.Option(help="Remove all we left on this device.", metavar="SERIAL")] = None,
) -> None:
    """List the phones that adb sees, and what they are."""
    from mobilevd.commands.devices import clean_device, list_devices

    if clean is not None:
        clean_device(clean, adb)
    else:
        list_devices(adb)


@app.command("build-runner")
def build_runner(
    abi: Annotated[str, typer.Option(help="arm64-v8a, x86_64, or host for this machine.")] = "arm64-v8a",
    executorch: Annotated[
        Path | None, typer.Option(help="Checkout of ExecuTorch with its submodules.", metavar="DIR")
    ] = None,
    ndk: Annotated[Path | None, typer.Option(help="Android NDK; else $ANDROID_NDK.", metavar="DIR")] = None,
    vulkan: Annotated[bool, typer.Option("--vulkan", help="With the Vulkan backend.")] = False,
    glibc: Annotated[
        bool, typer.Option("--glibc", help="Experimental: with glibc from this host, no NDK needed.")
    ] = False,
    wheel: Annotated[
        Path | None,
        typer.Option(help="With --glibc: ExecuTorch's wheel for the ABI; else pip gets it.", metavar="FILE"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, and stop.")] = False,
) -> None:
    """Build the program that runs models on phones."""
    from mobilevd.commands.build_runner import build_phone_runner

    build_phone_runner(abi, executorch, ndk, vulkan=vulkan, glibc=glibc, wheel=wheel, dry_run=dry_run)


@app.command()
def evaluate(
    generated: Annotated[Path, typer.Option(help="Folder of generated .mp4 files.")],
    reference: Annotated[Path, typer.Option(help="Folder of real .mp4 files.")],
    features: Annotated[str, typer.Option(help="motion, motion:FOLDER or i3d:FILE.")] = "motion",
    frames: Annotated[int | None, typer.Option(help="Frames of a clip; else those of a generated one.")] = None,
    fps: Annotated[float | None, typer.Option(help="Their rate; else that of a generated one.")] = None,
    json: Json = None,
) -> None:
    """Compare generated clips with real ones, at the size of the generated ones."""
    from mobilevd.commands.evaluate import evaluate_command

    evaluate_command(generated, reference, features, frames, fps, json)


@app.command()
def generate(
    image: Annotated[Path, typer.Option(help="Picture to animate.")],
    out: Annotated[Path, typer.Option(help="Video file to write.")],
    model: Annotated[Path | None, typer.Option(help="Model folder: run it in PyTorch.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder: run its exported programs on this host.")] = None,
    codec: Annotated[Path | None, typer.Option(help="Codec folder; a run's model knows its own.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Evaluations; 1 is one-step generation.")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels; else the model's own.")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels; else the model's own.")] = None,
    frames_per_chunk: Annotated[int | None, typer.Option(min=1, help="Decoded at once; else the whole clip.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
) -> None:
    """Make a clip from a picture, with a model or with an exported bundle."""
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
    )


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")],
) -> None:
    """Print the table of a finished run, and write its report.md anew."""
    from mobilevd.commands.report import report_command

    report_command(run_folder)


@app.command()
def doctor() -> None:
    """Tell what this machine has and lacks for a run. Exit code 1 if something is missing."""
    from rich.console import Console

    from mobilevd.commands.doctor import doctor_command

    if not doctor_command(Console()):
        raise typer.Exit(1)


def main() -> None:
    """The entry point of `mobilevd`."""
    sys.exit(app())

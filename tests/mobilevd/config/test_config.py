"""The configuration: what it accepts, and the one clear line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mobilevd.config import RunConfig, check_divisible, describe_plan, find_stage, load_config
from mobilevd.config.training import TrainingSettings, seen_by_weights
from mobilevd.errors import UserError
from tests.source import ROOT

TEXT = """\
name: demo
base: {model: assets/unet, codec: assets/codec}
training:
  steps: 100
  learning_rate: 1e-4
  mixed_precision: no
stages:
  - name: base
    label: Base
  - name: low
    transforms: [{kind: resolution, height: 32, width: 64}]
    objective: {kind: denoise}
    training: {steps: 40}
  - name: pruning
    transforms: [{kind: temporal_multiscale},
                 {kind: temporal_pruning, keep: 11}, {kind: funnels, attention: 0.5}]
    objective: {kind: adversarial, r1_weight: 2}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "configs" / "demo.yaml"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


def complaint(path: Path | str, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load_config(path, overrides)
    return str(error.value)


def test_values_and_defaults(file: Path) -> None:
    config = load_config(file)
    assert config.output == Path("runs/demo")
    assert config.training.learning_rate == 1e-4
    assert config.training.mixed_precision == "no"  # a bare `no` is false in YAML 1.1
    assert (config.diffusion.sigma_max, config.diffusion.num_steps) == (700, 25)
    base, low, pruning = config.stages
    assert (base.label, low.label) == ("Base", "low")
    assert [transform.kind for transform in pruning.transforms] == [
        "temporal_multiscale",
        "temporal_pruning",
        "funnels",
    ]
    assert [stage.nfe for stage in config.stages] == ["multi-step", "multi-step", "one-step"]
    assert [stage.objective.kind for stage in config.stages] == ["none", "denoise", "adversarial"]


def test_a_distilled_stage_has_a_teacher_before_it(file: Path) -> None:
    more = """\
  - name: funnels
    objective: {kind: distillation}
  - name: again
    objective: {kind: adversarial, distillation_weight: 1, teacher: funnels}
"""
    file.write_text(TEXT + more)
    config = load_config(file)
    assert [stage.nfe for stage in config.stages[3:]] == ["one-step", "one-step"]
    assert (config.teacher_of("funnels"), config.teacher_of("again")) == ("pruning", "funnels")


def test_a_stage_overrides_only_what_it_names(file: Path) -> None:
    base, low, _ = load_config(file).stages
    assert (base.training.steps, low.training.steps) == (100, 40)
    assert base.training.learning_rate == low.training.learning_rate == 1e-4


def test_overrides_by_index_and_by_name(file: Path) -> None:
    by_index = load_config(file, ["stages.2.training.steps=10", "data.fps=5", "training.betas=[0.5,0.99]"])
    by_name = load_config(file, ["stages.pruning.training.steps=10", "data.fps=5", "training.betas=[0.5, 0.99]"])
    assert by_index == by_name
    assert (by_index.stages[2].training.steps, by_index.data.fps) == (10, 5)
    assert by_index.stages[0].training.betas == (0.5, 0.99)
    assert load_config(file, ["stages.low.transforms.0.width=96"]).stages[1].transforms[0].model_dump()["width"] == 96
    assert load_config(file, ["training.steps=1", "training.steps=2"]).training.steps == 2
    assert load_config(file, ["data.videos=/a=b"]).data.videos == "/a=b"
    assert load_config(file, ["evaluation.features=i3d:/x.pt"]).evaluation.features == "i3d:/x.pt"


def test_an_override_that_no_stage_uses_is_refused(file: Path) -> None:
    load_config(file, ["training.steps=5"])  # the last stage has none of its own
    file.write_text(file.read_text() + "    training: {steps: 3}\n")
    with pytest.raises(UserError) as told:
        load_config(file, ["training.steps=5"])
    assert "override training.steps=5: no stage uses it" in str(told.value)
    assert str(told.value).endswith("such as stages.low.training.steps=5")
    assert load_config(file, ["training.learning_rate=1e-5"]).stages[1].training.learning_rate == 1e-5


def test_output_holds_the_name(file: Path) -> None:
    assert load_config(file, ["name=other", "output=/tmp/x/{name}"]).output == Path("/tmp/x/other")


def test_inputs_are_found_here_first_then_beside_configs(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assets" / "unet").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load_config(file).base.model == tmp_path / "assets" / "unet"
    assert load_config(file).base.codec == Path("assets/codec")  # in neither: as it was written
    (elsewhere / "assets" / "unet").mkdir(parents=True)
    assert load_config(file).base.model == Path("assets/unet")
    assert load_config(file).evaluation.features == "motion"
    (tmp_path / "encoder").mkdir()
    assert load_config(file, ["evaluation.features=motion:encoder"]).evaluation.features == f"motion:{tmp_path}/encoder"


def test_the_plan_can_be_run_as_it_stands(file: Path, tmp_path: Path) -> None:
    config = load_config(file, ["training.steps=7"])
    plan = describe_plan(config)
    assert RunConfig.model_validate(yaml.safe_load(plan)) == config
    resolved = tmp_path / "configs" / "resolved.yaml"
    resolved.write_text(plan)
    assert load_config(resolved) == config
    assert "#  2. low (low): resolution height=32 width=64; denoise for 40 steps; multi-step" in plan
    assert "#  1. base (Base): no transform; no training" in plan


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (
            "data: {heigth: 3}",
            ["demo.yaml:18: data.heigth: unknown key", "did you mean height?", "clips_per_video"],
        ),
        ("sead: 3", ["demo.yaml:18: sead: unknown key", "did you mean seed?"]),
        ("data: {fps: fast}", ["demo.yaml:18: data.fps: must be a valid integer, got 'fast'"]),
        ('seed: "3"', ["demo.yaml:18: seed: must be a valid integer, got '3'"]),
        ("data: {num_frames: 1}", ["data.num_frames: must be greater than or equal to 2, got 1"]),
        ("data: 3", ["demo.yaml:18: data: must be a mapping", "got 3"]),
        ("diffusion: {sigma_min: 9.0, sigma_max: 8.0}", ["diffusion: sigma_min 9.0 is above sigma_max 8.0"]),
        ("diffusion: {sigma_max: .inf}", ["diffusion.sigma_max: must be a finite number"]),
        ("export: {stages: some}", ["export.stages: got 'some', allowed: 'all'"]),
        ("seed: 1\nseed: 2", ["demo.yaml:19: not valid YAML", "duplicate key seed"]),
        ("data: {fps: 3", ["demo.yaml:19: not valid YAML"]),
        ("data: ${missing}", ["demo.yaml: Interpolation key 'missing' not found"]),
    ],
)
def test_mistakes_in_the_file(file: Path, line: str, wanted: list[str]) -> None:
    file.write_text(TEXT + line + "\n")
    text = complaint(file)
    assert len(text.splitlines()) == 1
    for part in wanted:
        assert part in text


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (
            "kind: denoise",
            "kind: denoize",
            ["demo.yaml:12: stages.1.objective: unknown kind 'denoize'", "mean denoise?"],
        ),
        (
            "kind: funnels",
            "kind: funels",
            ["stages.2.transforms.2: unknown kind 'funels'; did you mean funnels?"],
        ),
        (
            "attention: 0.5",
            "atention: 0.5",
            ["stages.2.transforms.2.atention: unknown key", "did you mean attention?"],
        ),
        (
            "attention: 0.5",
            "attention: null",
            ["stages.2.transforms.2: attention and convolution are both null"],
        ),
        (
            "attention: 0.5",
            "attention: 1.5",
            ["stages.2.transforms.2.attention: must be less than or equal to 1, got 1.5"],
        ),
        ("keep: 11", "keep: 1.5", ["demo.yaml:16: stages.2.transforms.1: keep is 1.5"]),
        ("{kind: temporal_multiscale}", "{factor: 2}", ["stages.2.transforms.0: has no `kind`"]),
        (
            "r1_weight: 2",
            "sigma_points: 5",
            ["demo.yaml:17: stages.2.objective: sigma_points is 5, above grid_steps 4"],
        ),
        (
            "kind: adversarial, r1_weight: 2",
            "kind: distillation",
            ["stages.pruning.objective: distillation needs an adversarially trained stage before it", "there: none"],
        ),
        (
            "r1_weight: 2",
            "teacher: low",
            ["demo.yaml:17: stages.2.objective: teacher is 'low', but distillation_weight is 0"],
        ),
        (
            "r1_weight: 2",
            "distillation_weight: 2",
            ["stages.pruning.objective: distillation needs an adversarially trained stage before it", "there: none"],
        ),
        (
            "kind: adversarial, r1_weight: 2",
            "kind: distillation, teacher: low",
            ["distillation needs a one-step stage named 'low' before it (one-step stages there: none)"],
        ),
        ("height: 32, ", "", ["stages.1.transforms.0.height: missing (height in pixels"]),
        ("name: low", "name: 2", ["demo.yaml:10: stages.1.name: must be a valid string, got 2"]),
        ("name: low", "name: a/b", ["demo.yaml:10: stages.1.name: string should match pattern", "got 'a/b'"]),
        ("name: low", "name: base", ["demo.yaml: two stages are named base"]),
        (
            "base: {model",
            "bass: {model",
            ["base: missing", "demo.yaml:2: bass: unknown key 'bass'; did you mean base?"],
        ),
    ],
)
def test_mistakes_in_a_stage(file: Path, old: str, new: str, wanted: list[str]) -> None:
    assert old in TEXT
    file.write_text(TEXT.replace(old, new))
    text = complaint(file)
    for part in wanted:
        assert part in text


def test_every_mistake_has_its_line(file: Path) -> None:
    text = complaint(file, "data.fps=0", "stages.low.training.stepps=1", "diffusion=null")
    assert len(text.splitlines()) == 3
    assert "override data.fps=0: data.fps: must be greater than or equal to 1, got 0" in text
    assert "override stages.low.training.stepps=1: stages.1.training.stepps: unknown key" in text
    assert "override diffusion=null: diffusion: must be a mapping" in text


def test_a_wrong_default_is_told_once(file: Path) -> None:
    assert len(complaint(file, "training.steps=-1").splitlines()) == 1


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("training.steps", "expected key=value"),
        ("=3", "expected key=value"),
        ("training..steps=3", "expected key=value"),
        (
            "stages.prunning.label=x",
            "stages has no entry prunning; did you mean pruning? (entries: 0 to 2, base, low",
        ),
        ("stages.9.label=x", "stages has no entry 9"),
        ("name.x=3", "name is 'demo', which has no key x"),
        ("training.steps={", "the value is not valid YAML"),
    ],
)
def test_bad_overrides(file: Path, override: str, wanted: str) -> None:
    text = complaint(file, override)
    assert text.startswith(f"override {override}: ")
    assert wanted in text


def test_a_missing_file_names_the_others(file: Path) -> None:
    text = complaint(file.with_name("dema.yaml"))
    assert f"did you mean {file}?" in text
    assert f"available: {file}" in text


@pytest.mark.parametrize(
    ("content", "wanted"), [("- a\n- b\n", "got a list"), ("words\n", "got text"), ("", "missing")]
)
def test_files_that_are_no_configuration(tmp_path: Path, content: str, wanted: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    assert wanted in complaint(path)


def test_not_text_and_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8 text" in complaint(tmp_path / "x.yaml")
    assert "is a folder" in complaint(tmp_path)


def test_find_stage(file: Path) -> None:
    config = load_config(file)
    assert find_stage(config, "low") is config.stages[1]
    with pytest.raises(UserError, match="no stage 'prune'; did you mean pruning"):
        find_stage(config, "prune")


def test_divisible() -> None:
    check_divisible(64, 128, 32)
    with pytest.raises(UserError) as error:
        check_divisible(40, 30, 32, where="evaluation")
    assert str(error.value).splitlines() == [
        "evaluation.height: 40 is not divisible by 32; nearest valid: 32 or 64",
        "evaluation.width: 30 is not divisible by 32; nearest valid: 32",
    ]


def test_clips_are_compared_at_the_shape_of_the_crop(file: Path) -> None:
    told = complaint(file, "data.height=576", "data.width=1024", "evaluation.height=240", "evaluation.width=320")
    assert "evaluation.height and width: 240x320 (height x width) is another shape than" in told
    assert told.endswith("nearest that fit: 240x427 or 180x320") and str(file) in told
    for height, width in ((180, 320), (240, 427), (125, 222)):  # the nearest whole pixel will do
        sizes = [f"evaluation.height={height}", f"evaluation.width={width}"]
        load_config(file, ["data.height=576", "data.width=1024", *sizes])
    for given, expected in (("height=180", (180, 320)), ("width=320", (180, 320)), ("clips=5", (32, 57))):
        evaluation = load_config(file, ["data.height=576", "data.width=1024", f"evaluation.{given}"]).evaluation
        assert (evaluation.height, evaluation.width) == expected


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_load(path: Path) -> None:
    assert load_config(path).stages


@pytest.mark.parametrize("name", ["tiny.yaml", "mobilevd.yaml"])
def test_the_configurations_that_ship_are_valid(name: str) -> None:
    made = load_config(ROOT / "configs" / name)
    assert [stage.name for stage in made.stages][-1] == "funnels" and made.stages[-1].nfe == "one-step"


def test_the_smoke_run_has_the_stages_of_the_tiny_run() -> None:
    smoke, tiny = (load_config(ROOT / "configs" / f"{name}.yaml") for name in ("smoke", "tiny"))
    for short, whole in zip(smoke.stages, tiny.stages, strict=True):
        assert (short.name, short.label, short.transforms) == (whole.name, whole.label, whole.transforms)
        assert short.objective.kind == whole.objective.kind
        assert short.training.steps == 2 or not short.objective.trains


def test_the_best_by_validation_needs_validations(file: Path) -> None:
    with pytest.raises(UserError, match=r"result is best, by validation, and validate_every is 0: give the steps"):
        load_config(file, ["training.result=best"])
    chosen = load_config(file, ["training.result=best", "training.validate_every=5"])
    assert all(stage.training.result == "best" for stage in chosen.stages)


def test_what_a_finished_stage_belongs_to() -> None:
    plain = TrainingSettings(validate_every=5)
    assert seen_by_weights(plain) == seen_by_weights(TrainingSettings(validate_every=9, micro_batch_size=2))
    assert seen_by_weights(plain) != seen_by_weights(TrainingSettings(validate_every=5, batch_size=8))
    best = [TrainingSettings(result="best", validate_every=every) for every in (5, 9)]
    assert seen_by_weights(best[0]) != seen_by_weights(best[1])

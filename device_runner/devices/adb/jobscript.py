"""The shell script that runs a job on the device without a connection."""

from __future__ import annotations

import math
import re

from device_runner.devices.adb.remote import quote
from device_runner.devices.job import FILES, OUT, Job, Step
from device_runner.errors import RunnerError

OOM_SCORE = 900
"""Out-of-memory score of the programs. Processes that adbd starts have -950, so for a model that is too large the
kernel would end everything else first. The script itself keeps -950, so that it can record how its step ended."""


def check_job(job: Job) -> None:
    """Raise `RunnerError` for the first wrong name: one that leaves its folder, or shell text in place of a name."""

    def wrong(what: str, name: str, right: str) -> RunnerError:
        return RunnerError(f"{job.title}: {what} is called {name!r}; it must be {right}")

    if not re.fullmatch("[0-9a-f]{64}", job.key):
        raise wrong("the job's key", job.key, "a hexadecimal SHA-256")
    for name in job.files:
        if not _stays_inside(name):
            raise wrong("a file", name, "a relative path with slashes and without `..`")
    if job.cpu_mask is not None and not re.fullmatch("[0-9a-fA-F]{1,16}", job.cpu_mask):
        raise wrong("the mask of cores", job.cpu_mask, "hexadecimal")
    seen = set()
    for step in job.steps:
        if not re.fullmatch("[A-Za-z0-9-]+", step.name) or step.name in seen:
            raise wrong("a step", step.name, "letters, digits and dashes, and unlike the others")
        seen.add(step.name)
        if not step.command or "\0" in "".join(step.command):
            raise wrong(f"the command of step {step.name}", str(step.command), "arguments without null characters")
        for name in step.outputs:
            if not _stays_inside(name):
                raise wrong(f"an output of step {step.name}", name, "a relative path with slashes and without `..`")
        for name in step.environment:
            if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
                raise wrong(f"a variable of step {step.name}", name, "letters, digits and underscores")


def _stays_inside(name: str) -> bool:
    parts = name.split("/")
    # Backslashes are separators on some hosts, and control characters would end lines of the output that is read back.
    return not set(parts) & {"", ".", ".."} and not any(char == "\\" or ord(char) < 32 for char in name)


def job_script(job: Job, folder: str, sampler: str | None) -> str:
    """The script, to be started with `setsid` in `folder`, an absolute path on the device.

    It leaves there `pid`, `step` (the current one), `logs/STEP.stdout`, `.stderr` and `.exit`, `logs/series`,
    `steps/STEP/` and at last `finished`; or `timed-out`. Files appear by renaming, so each is whole once it exists. All
    processes of the script are one group, which ends with it.
    """
    parts = [_BEGIN.format(folder=quote(folder), limit=math.ceil(job.timeout_s))]
    if sampler is not None and job.sample_state_s is not None:
        parts.append(_SAMPLER.format(sampler=sampler, seconds=f"{job.sample_state_s:g}"))
    parts += [_step(step, folder, job.cpu_mask) for step in job.steps]
    return "".join([*parts, _END])


# `mkdir` succeeds only once: a second start in the same folder, after the answer to the first was lost, ends there.
# `stat` is read by another process, since user-mode emulation makes up what a process reads about itself.
_BEGIN = """cd {folder} && mkdir claimed || exit 1
line=$(cat /proc/$$/stat)
set -- ${{line##*) }}
boot=unknown
{{ read -r boot < /proc/sys/kernel/random/boot_id; }} 2> /dev/null
echo "$$ ${{20}} $boot $(date +%s)" > pid.part && mv pid.part pid || exit 1
( sleep {limit} && {{ : > timed-out; kill -KILL 0; }} ) > /dev/null 2>&1 &
sampler=
code=0
"""

_SAMPLER = """( while :; do
{sampler}
sleep {seconds} || sleep 1
done ) > logs/series.part 2> /dev/null &
sampler=$!
"""

# The series is copied: a process that the sampler started may still write to the original while it is handed back.
_END = """if [ -n "$sampler" ]; then
kill -KILL "$sampler"
cp logs/series.part logs/series || exit 1
fi
date +%s > finished.part && mv finished.part finished
kill -KILL 0
"""


def _step(step: Step, folder: str, cpu_mask: str | None) -> str:
    out = f"{folder}/steps/{step.name}"

    def placed(text: str) -> str:
        return quote(text.replace(FILES, f"{folder}/files").replace(OUT, out))

    variables = "".join(f"export {name}={placed(value)}\n" for name, value in step.environment.items())
    command = " ".join(placed(argument) for argument in step.command)
    if cpu_mask is not None:
        command = f"taskset {quote(cpu_mask)} {command}"
    log = f"logs/{step.name}"
    return f"""if [ "$code" = 0 ]; then
echo {quote(step.name)} > step.part && mv step.part step || exit 1
(
{{ echo {OOM_SCORE} > /proc/self/oom_score_adj; }} 2> /dev/null
cd {quote(out)} || exit 126
{variables}exec {command}
) < /dev/null > {log}.stdout 2> {log}.stderr
code=$?
echo "$code" > {log}.part && mv {log}.part {log}.exit || exit 1
fi
"""

"""A job on the device that needs no connection: it is prepared, started, watched and stopped, and its results fetched.

It outlives the link and this machine, but not adbd: when the device stops adbd (USB debugging switched off, another USB
mode, `adb root` or `adb tcpip`), Android ends everything that adbd ever started, since all of it is one group.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_runner.devices.adb.client import Adb, ConnectionLost
from device_runner.devices.adb.jobscript import job_script
from device_runner.devices.adb.remote import PROCESSES, calls, quote, together, written
from device_runner.devices.adb.storage import file_sha256, writing
from device_runner.devices.job import Job, RawRun
from device_runner.errors import RunnerError

SHORT_S = 10.0
"""Age below which a run is looked at more often."""
SHORT_WAIT, LONG_WAIT = (4, 0.1), (8, 0.25)
"""Number of tries and seconds per try that a look waits on the device for the end of a run."""


@dataclass(frozen=True)
class Look:
    """The state of a run at one look."""

    finished: bool
    alive: bool
    timed_out: bool
    restarted: bool
    step: str
    lines: int
    """Number of lines that the current step has printed."""
    age_s: int
    gone: bool = False
    adbd_restarted: bool = False
    """True if adbd was restarted since the run was last seen alive."""


class Run:
    """The folder of one run on the device."""

    def __init__(self, adb: Adb, base: str, name: str) -> None:
        self.adb, self.name = adb, name
        self.folder = f"{base}/runs/{name}"
        self.store = f"{base}/files"

    @classmethod
    def new(cls, adb: Adb, base: str, key: str) -> Run:
        return cls(adb, base, f"{key[:16]}-{secrets.token_hex(4)}")

    def prepare(self, job: Job, sha256: Mapping[str, str], copied: set[str], sampler: str | None) -> None:
        """Create the files and the script. May be repeated after a lost link."""
        inside = f"{self.folder}/files"
        folders = {f"{inside}/{name}".rpartition("/")[0] for name in job.files}
        folders |= {f"{self.folder}/logs", *(f"{self.folder}/steps/{step.name}" for step in job.steps)}
        # Programs may write into a folder of their outputs, so these folders must exist beforehand.
        folders |= {
            f"{self.folder}/steps/{step.name}/{name}".rpartition("/")[0] for step in job.steps for name in step.outputs
        }
        lines = list(together("mkdir -p", sorted(folders)))
        for name in job.files:
            stored = f"{self.store}/{sha256[name]}"
            link = "cp" if name in copied else "ln -sf"
            lines.append(f"{link} {quote(stored, f'{inside}/{name}')} && touch {quote(stored)}.ok")
        # The key comes last: a folder without one is never resumed.
        for name, text in {"job.sh": job_script(job, self.folder, sampler), "key": job.key}.items():
            lines += written(text, f"{self.folder}/{name}")
        with writing(self.adb, self.store):
            for command in calls(lines):
                self.adb.shell(command, timeout=60)

    def start(self, note: Mapping[str, Any]) -> None:
        """Start the script, once even if repeated; `note` is stored beside it for a later call that resumes the run."""
        noted = " &&\n".join(written(json.dumps(note), f"{self.folder}/note"))
        with writing(self.adb, self.store):
            self.adb.shell(
                f"{PROCESSES}\ncd {quote(self.folder)} || exit 1\n"
                "if [ ! -d claimed ]; then\n"
                f"{{ {noted}\n}} || exit 1\n"
                'parent; echo "$adbd" > adbd || exit 1\n'
                "setsid sh job.sh < /dev/null > /dev/null 2> job.err &\n"
                "fi\n"
                "tries=0\n"
                "while [ ! -f pid ] && [ $tries -lt 100 ]; do tries=$((tries + 1)); sleep 0.05 || sleep 1; done\n"
                '[ -f pid ] || { echo "the job does not start: $(cat job.err)" >&2; exit 1; }'
            )

    def note(self) -> dict[str, Any] | None:
        """The note that `start` left (`state_before`, `started`); None if it cannot be read."""
        answer = self.adb.shell_answer(f"cat {quote(self.folder)}/note")
        try:
            note = json.loads(answer.stdout)
        except ValueError:
            return None
        whole = isinstance(note, dict) and isinstance(note.get("state_before"), dict)
        return note if whole and isinstance(note.get("started"), str) else None

    def look(self, age_s: float) -> Look:
        """Wait a short time on the device for the end of the run, and return its state.

        Waiting there costs less than asking again and again: a call starts a shell, a step of waiting only `sleep`. So
        watching does not slow a run down, and its end is seen at once.
        """
        times, seconds = SHORT_WAIT if age_s < SHORT_S else LONG_WAIT
        told = self.adb.shell(
            PROCESSES
            + f"cd {quote(self.folder)} 2> /dev/null || {{ echo gone; exit 0; }}\n"
            + f"tries=0; while [ ! -f finished ] && alive . && [ $tries -lt {times} ]\n"
            + f"do sleep {seconds} || sleep 1; tries=$((tries + 1)); done\n"
            # `alive` is tested first: a run that ends between the two tests has then left `finished`.
            + "lives=; alive . && { lives=yes; echo alive; }\n"
            # A restart of adbd did not end a run that is still alive, so the new adbd becomes the known one.
            + "known=; { read -r known < adbd; } 2> /dev/null; parent\n"
            + 'if [ -n "$known" ] && [ -n "$adbd" ] && [ "$known" != "$adbd" ]; then\n'
            + '[ -z "$lives" ] || echo "$adbd" > adbd; [ -n "$lives" ] || echo adbd-restarted\nfi 2> /dev/null\n'
            + '[ -n "$pid_boot" ] && [ "$pid_boot" != "$boot" ] && echo restarted\n'
            + "[ -f finished ] && echo finished\n[ -f timed-out ] && echo timed-out\n"
            + "echo age $(($(date +%s) - ${began:-0}))\n"
            + '{ read -r step < step; } 2> /dev/null && echo step "$step" $(wc -l < "logs/$step.stdout")\n:'
        ).splitlines()
        words = {line.split(" ", 1)[0]: line.split(" ") for line in told if line}
        step = words.get("step", [])
        return Look(
            finished="finished" in words,
            alive="alive" in words,
            timed_out="timed-out" in words,
            restarted="restarted" in words,
            step=step[1] if len(step) > 1 else "",
            lines=int(step[2]) if len(step) > 2 and step[2].isdigit() else 0,
            age_s=int(words["age"][1]) if "age" in words and words["age"][1].lstrip("-").isdigit() else 0,
            gone="gone" in words,
            adbd_restarted="adbd-restarted" in words,
        )

    def stop_command(self, remove: bool) -> str:
        """Shell text that ends the run's processes, checks that they are gone, then removes the folder if `remove`."""
        end = f" && rm -rf {quote(self.folder)}" if remove else ""
        return f"{PROCESSES}\nstop {quote(self.folder)}{end}"

    def stop(self, remove: bool) -> None:
        """Stop the run; raises `RunnerError` if processes are left."""
        self.adb.shell(self.stop_command(remove), timeout=60)

    def left(self, job: Job) -> tuple[dict[str, int], dict[str, str]]:
        """Exit codes of the steps that ran (-N for signal N), and the SHA-256 of every file that exists."""
        lines = [f"cd {quote(self.folder)}"]
        for step in job.steps:
            lines.append(f"{{ [ ! -f logs/{step.name}.exit ] || echo exit {step.name} $(cat logs/{step.name}.exit); }}")
        places = self._places(job)
        for index, place in enumerate(places):
            lines.append(f"{{ [ ! -f {quote(place)} ] || echo file {index} $(sha256sum < {quote(place)}); }}")
        codes, hashes = {}, {}
        # Outputs are some megabytes each; a slow phone hashes more than 20 MB per second.
        limit = 60 + job.output_bytes / 20e6
        for line in "\n".join(self.adb.shell(command, limit) for command in calls(lines)).splitlines():
            match line.split():
                case ["exit", name, code] if code.isdigit():
                    # A shell reports 128 + N for a program that signal N ended; there are 64 signals.
                    codes[name] = 128 - int(code) if 128 < int(code) <= 192 else int(code)
                case ["file", index, sha, *_] if index.isdigit() and int(index) < len(places):
                    hashes[places[int(index)]] = sha
        return codes, hashes

    @staticmethod
    def _places(job: Job) -> list[str]:
        logs = [f"logs/{step.name}.{stream}" for step in job.steps for stream in ("stdout", "stderr")]
        outputs = [f"steps/{step.name}/{name}" for step in job.steps for name in step.outputs]
        return ["logs/series", *logs, *dict.fromkeys(outputs)]

    def fetch(self, hashes: Mapping[str, str], folder: Path, limit_s: float) -> None:
        """Pull the files into a folder here, under the same names, and check each against the device's SHA-256.

        Raises `ConnectionLost`, or `RunnerError` when a file does not arrive whole.
        """
        groups: dict[str, list[str]] = {}
        for place in hashes:
            target = folder / place
            if not (target.is_file() and file_sha256(target) == hashes[place]):
                groups.setdefault(place.rpartition("/")[0], []).append(place)
        for parent, places in groups.items():
            (folder / parent).mkdir(parents=True, exist_ok=True)
            sources = [f"{self.folder}/{place}" for place in places]
            plain = self.adb.program.plain_transfer
            answer = self.adb.device_call("pull", *plain, *sources, str(folder / parent), timeout=limit_s)
            for place in places:
                target = folder / place
                if not target.is_file() or file_sha256(target) != hashes[place]:
                    if answer.code:
                        raise self.adb.lost(answer)
                    raise ConnectionLost(f"{self.adb.name}: {place} did not arrive as it is on the device")


def raw_runs(device: str, job: Job, codes: Mapping[str, int], fetched: Path, output_dir: Path) -> dict[str, RawRun]:
    """The results of the steps that ran, their outputs moved to `output_dir/STEP`.

    Raises `RunnerError` if steps are missing although none failed.
    """
    runs: dict[str, RawRun] = {}
    for step in job.steps:
        if step.name not in codes:
            break
        place = output_dir / step.name
        outputs = fetched / "steps" / step.name
        if outputs.is_dir():
            outputs.rename(place)
        else:
            place.mkdir()
        logs = [fetched / "logs" / f"{step.name}.{stream}" for stream in ("stdout", "stderr")]
        stdout, stderr = (log.read_text(errors="replace") if log.is_file() else "" for log in logs)
        runs[step.name] = RawRun(device, codes[step.name], stdout, stderr, place)
    if len(runs) < len(job.steps) and not any(run.exit_code for run in runs.values()):
        missing = next(step.name for step in job.steps if step.name not in runs)
        raise RunnerError(f"{device}: {job.title}: step {missing!r} left no exit code, although none before it failed")
    return runs

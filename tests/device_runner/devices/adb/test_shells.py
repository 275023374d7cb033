"""What is told to a device's shell: marks that always come, lines that every host can pass, files that are whole."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_runner.devices.adb.client import Adb, Answer, ConnectionLost
from device_runner.devices.adb.program import AdbProgram
from device_runner.devices.adb.remote import LONGEST, calls, length, together, written
from device_runner.devices.adb.storage import writing
from device_runner.devices.adb.survey import survey
from device_runner.devices.job import Job, RawJob, Step
from device_runner.errors import RunnerError
from tests.device_runner.devices.adb.conftest import Phone, check_results

SHELLS = [["dash"], ["mksh"], ["busybox", "sh"], ["bash", "--posix"]]


class ShellOnly(Adb):
    """Commands run in a shell of this machine."""

    def __init__(self, shell: list[str], **settings: Any) -> None:
        super().__init__(AdbProgram("adb", "test", "36", (36,)), "X")
        path = shutil.which(shell[0])
        if path is None:
            pytest.skip(f"{shell[0]} is not installed")
        self.shell_command, self.settings = [path, *shell[1:]], settings

    def device_call(self, *arguments: str, timeout: float = 20.0) -> Answer:
        done = subprocess.run(
            [*self.shell_command, "-c", arguments[1]], capture_output=True, text=True, timeout=timeout, **self.settings
        )
        return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request: pytest.FixtureRequest) -> list[str]:
    return request.param


def test_the_mark_needs_no_program(shell: list[str]) -> None:
    """`printf` is none of mksh's own commands."""
    adb = ShellOnly(shell, env={"PATH": "/nowhere"})
    answer = adb.shell_answer("echo out; echo err >&2; (exit 3); x=$?; { exit $x; }")
    assert (answer.code, answer.stdout, answer.stderr) == (3, "out\n", "err\n")
    assert adb.shell_answer("true_is_not_there").code == 127
    assert adb.shell_answer(":").code == 0 and adb.shell_answer("echo 'trap' && false").stdout == "trap\n"


# mksh and bash do the same, but only after 31 and 15 s of trying again.
@pytest.mark.parametrize("shell", [["dash"], ["busybox", "sh"]], ids=lambda shell: shell[0])
def test_a_shell_that_can_make_no_process_is_no_lost_link(shell: list[str]) -> None:
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

    adb = ShellOnly(shell, preexec_fn=limit, **nobody)
    if (
        subprocess.run(["sh", "-c", "/bin/true; :"], preexec_fn=limit, stderr=subprocess.DEVNULL, **nobody).returncode
        == 0
    ):
        pytest.skip("this system sets no limit to the number of processes")
    answer = adb.shell_answer("/bin/cat /etc/hostname; exit 7")
    assert answer.code not in (0, 7) and "fork" in answer.stderr, answer


def test_a_shell_that_is_killed_is_a_lost_link(shell: list[str]) -> None:
    with pytest.raises(ConnectionLost):
        ShellOnly(shell).shell_answer("echo begun; kill -KILL $$; echo done")


TEXTS = ["", "plain", "it's\n" * 9000, '\\"' * 20_000, "\u00e4\u20ac$(id)`id`" * 3000, "'" * 40_000]


@pytest.mark.parametrize("text", TEXTS, ids=["empty", "plain", "quotes", "escapes", "others", "worst"])
def test_long_texts_are_written_in_pieces(shell: list[str], tmp_path: Path, text: str) -> None:
    place = tmp_path / "a file's place"
    made = list(calls(written(text, str(place))))
    assert all(length(call) <= LONGEST for call in made)
    # What a Windows host would put on adb's command line.
    assert all(len(subprocess.list2cmdline(["adb", "-s", "R58M12", "shell", call])) < 30_000 for call in made)
    adb = ShellOnly(shell)
    for _ in range(2):  # as after a lost link
        for call in made:
            adb.shell(call)
    assert place.read_text() == text + "\n" and list(tmp_path.iterdir()) == [place]


def test_a_text_that_did_not_arrive_whole_is_no_file(tmp_path: Path) -> None:
    *pieces, last = written("x" * 9000, str(tmp_path / "file"))
    adb = ShellOnly(["dash"])
    adb.shell("\n".join(pieces[:-1]))
    with pytest.raises(RunnerError, match="a command on the device failed"):
        adb.shell(last)
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("free", "said"), [(0, "the device's storage is full"), (5000, "a command on the device failed")]
)
def test_a_write_that_fails_is_put_down_to_a_full_disk_only_if_it_is(free: int, said: str) -> None:
    class Full(ShellOnly):
        def device_call(self, *arguments: str, timeout: float = 20.0) -> Answer:
            script = arguments[1].replace("df -k /data", f"echo head; echo tmpfs 99 99 {free} 99% /data")
            return super().device_call("shell", script)

    adb = Full(["dash"])  # which says "I/O error" alone
    with pytest.raises(RunnerError, match=said), writing(adb, "/data"):
        adb.shell("echo x > /dev/full")


def test_many_places_are_given_in_several_lines(tmp_path: Path) -> None:
    places = [str(tmp_path / f"a folder {index}" / ("x" * 100)) for index in range(400)]
    made = list(calls(together("mkdir -p", places)))
    assert len(made) > 1 and all(length(call) <= LONGEST for call in made)
    for call in made:
        ShellOnly(["dash"]).shell(call)
    assert all(Path(place).is_dir() for place in places)
    assert list(together("rm -rf", [])) == []
    with pytest.raises(RunnerError, match="a command for the device is too long"):
        list(calls([f"echo {'x' * 30_000}"]))


def test_a_job_with_a_long_command_runs(
    any_phone: Phone,
    make_job: Callable[..., Job],
    run: Callable[..., RawJob],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths = []
    call = any_phone.device.adb.call

    def noted(*arguments: str, timeout: float = 20.0) -> Answer:
        lengths.append(len(subprocess.list2cmdline([any_phone.device.adb.program.path, *arguments])))
        return call(*arguments, timeout=timeout)

    monkeypatch.setattr(any_phone.device.adb, "call", noted)
    step = Step("timed", ("/bin/sh", "-c", 'printf %s "$1" | wc -c', "sh", "it's " * 10_000))
    assert run(any_phone, make_job(steps=(step,))).steps["timed"].stdout.split() == ["50000"]
    assert max(lengths) < 30_000


def test_the_program_is_the_first_to_go_when_memory_is_short(
    real_phone: Phone, make_job: Callable[..., Job], run: Callable[..., RawJob]
) -> None:
    own = "cat /proc/self/oom_score_adj; read -r p rest < ../../pid; cat /proc/$p/oom_score_adj"
    raw = run(real_phone, make_job(steps=(Step("timed", ("/bin/sh", "-c", own)),)))
    program, script = raw.steps["timed"].stdout.split()
    assert int(program) == 900 and int(script) < 900


def test_another_time_zone_makes_no_file_doubtful(
    make_phone: Callable[..., Phone], make_job: Callable[..., Job], run: Callable[..., RawJob]
) -> None:
    zone = '#!/bin/sh\n[ -z "$TZ" ] && [ -f /tmp/zone ] && export TZ="$(cat /tmp/zone)"\nexec /usr/bin/stat "$@"\n'
    phone = make_phone(shims={"stat": zone})
    phone.sh("echo AAA-1 > /tmp/zone")
    job = make_job()
    check_results(run(phone, job), job)
    phone.sh("echo BBB-5 > /tmp/zone")
    said: list[str] = []
    raw = run(phone, job, lambda what, share: said.append(what))
    check_results(raw, job)
    assert raw.transfer["pushed_bytes"] == 0 and "checking files on the device" not in said


def test_a_device_that_is_too_old_is_told_which_android_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    adb = ShellOnly(["dash"])
    monkeypatch.setattr(adb, "shell_answer", lambda command: Answer(0, "boot b\nnow 1\nlacks sha256sum\n", ""))
    with pytest.raises(RunnerError, match="the device has no sha256sum; Android 8 or newer is needed"):
        survey(adb, "/data/local/tmp/mobilevd")

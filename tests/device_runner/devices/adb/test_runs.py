"""A job over adb: what arrives, what stays on the device, what is refused."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device_runner.devices.adb import detached, session
from device_runner.devices.adb.client import ConnectionLost
from device_runner.devices.adb.lock import COLLECTED, place
from device_runner.devices.job import Job, RawJob, Step
from device_runner.errors import RunnerError
from tests.device_runner.devices.adb.conftest import BIG, Phone, check_results, later, wait_until

MakeJob = Callable[..., Job]
Run = Callable[..., RawJob]


def shell_step(command: str, name: str = "timed", *outputs: str) -> Step:
    return Step(name, ("/bin/sh", "-c", command, "sh", "{files}", "{out}"), outputs)


def test_everything_arrives_and_a_second_run_pushes_nothing(phone: Phone, make_job: MakeJob, run: Run) -> None:
    job = make_job(times=8)
    shares: list[tuple[str, float | None]] = []
    ready: list[list[str]] = []
    raw = run(
        phone, job, lambda what, share: shares.append((what, share)), lambda: ready.append(phone.listing("files"))
    )
    check_results(raw, job)
    sizes = sum(path.stat().st_size for path in job.files.values())
    assert raw.transfer["pushed_bytes"] == sizes and raw.transfer["kept_bytes"] == 0
    assert not raw.transfer["taken_up"] and raw.transfer["push_s"] > 0
    pushing = [share for what, share in shares if what == "pushing program.pte"]
    assert pushing and all(share is not None and 0 <= share <= 1 for share in pushing)
    assert any(what.startswith("running timed") for what, _ in shares)
    # Before anything runs, all files are in the store, each with the note of its check.
    assert len(ready) == 1 and len(ready[0]) == 4
    assert phone.listing("runs") == []

    again = run(phone, job, ready=lambda: ready.append(phone.listing("files")))
    check_results(again, job)
    assert again.transfer["pushed_bytes"] == 0 and again.transfer["kept_bytes"] == sizes
    assert ready[1] == ready[0] and not again.transfer["taken_up"]
    assert again.started > raw.started


@pytest.mark.parametrize("shell", ["mksh", "busybox"])
def test_other_shells_and_tools(make_phone: Callable[..., Phone], shell: str, make_job: MakeJob, run: Run) -> None:
    """Android has mksh; busybox is on many boards."""
    phone = make_phone(shell=shell)
    job = make_job(sample_state_s=0.1, cpu_mask="1")
    for _ in range(2):
        raw = run(phone, job)
        check_results(raw, job)
    assert raw.transfer["pushed_bytes"] == 0 and len(raw.series) >= 2
    hung = make_job(key="hung", steps=(shell_step("sleep 4321"),), timeout_s=1)
    with pytest.raises(RunnerError, match="was stopped after 1 s, the time limit"):
        run(phone, hung)
    assert phone.processes("4321") == [] and phone.listing("runs") == []


def test_programs_are_copies_and_large_files_links(any_phone: Phone, make_job: MakeJob, run: Run) -> None:
    """A loader looks beside the program's real place for its libraries, and that must not be the store."""
    step = shell_step(
        'cd "$1"; for f in program.pte runner/*; do if [ -L "$f" ]; then echo link; else echo file; fi; done'
    )
    job = make_job(steps=(step,))
    beside = {**job.files, "runner/lib with.so": job.files["program.pte"]}
    raw = run(any_phone, replace(job, files=beside))
    assert raw.steps["timed"].stdout.split() == ["link", "file", "file"], raw.steps["timed"]


def test_arguments_and_variables_are_not_seen_by_a_shell(phone: Phone, make_job: MakeJob, run: Run) -> None:
    nasty = ["a b", "it's", '"', "$(touch /tmp/x)", "`id`", "; echo c", "two\nlines", "", "*", "\\", "-n", "{nothing}"]
    echo = Step("timed", ("/bin/sh", "-c", 'for a; do printf "<%s>" "$a"; done; printf "<%s>" "$V"', "sh", *nasty))
    raw = run(phone, make_job(steps=(replace(echo, environment={"V": "{files};'x"}),)))
    printed = raw.steps["timed"].stdout
    assert printed.startswith("".join(f"<{argument}>" for argument in nasty))
    assert printed.endswith("/files;'x>") and "{" not in printed.rpartition("<")[2]


def test_steps_end_with_the_first_that_fails(any_phone: Phone, make_job: MakeJob, run: Run) -> None:
    steps = (shell_step("echo one", "one"), shell_step("kill -9 $$", "two"), shell_step("echo three", "three"))
    raw = run(any_phone, make_job(steps=steps))
    assert {name: step.exit_code for name, step in raw.steps.items()} == {"one": 0, "two": -9}
    assert run(any_phone, make_job(steps=(shell_step("exit 7"),))).steps["timed"].exit_code == 7
    missing = run(any_phone, make_job(steps=(Step("timed", ("/no/such/program",)),)))
    assert missing.steps["timed"].exit_code == 127 and "no/such" in missing.steps["timed"].stderr


def test_an_output_that_was_not_written_is_not_handed_back(any_phone: Phone, make_job: MakeJob, run: Run) -> None:
    step = shell_step('mkdir "$2/deep"; echo x > "$2/deep/there"; echo y > "$2/unasked"', "timed", "deep/there", "not")
    raw = run(any_phone, make_job(steps=(step,)))
    folder = raw.steps["timed"].output_dir
    assert sorted(path.name for path in folder.rglob("*")) == ["deep", "there"], raw.steps["timed"].stderr


def test_cores_and_samples(real_phone: Phone, make_job: MakeJob, run: Run) -> None:
    step = shell_step("grep Cpus_allowed_list /proc/self/status; sleep 0.5")
    raw = run(real_phone, make_job(steps=(step,), cpu_mask="2", sample_state_s=0.1))
    assert raw.steps["timed"].stdout.split()[-1] == "1"
    times = [sample["uptime_s"] for sample in raw.series]
    assert len(times) >= 3 and times == sorted(times) and times[-1] - times[0] < 5
    assert raw.state_before["uptime_s"] <= times[0] and times[-1] <= raw.state_after["uptime_s"]


def test_a_time_limit_ends_everything(phone: Phone, make_job: MakeJob, run: Run) -> None:
    job = make_job(steps=(shell_step("sleep 4321 & sleep 4321"),), timeout_s=1)
    with pytest.raises(RunnerError, match="bundle, unet: was stopped after 1 s, the time limit"):
        run(phone, job)
    assert phone.processes("4321") == [] and phone.listing("runs") == []


def test_the_time_limit_holds_where_the_device_forgets_it(
    real_phone: Phone, make_job: MakeJob, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "GRACE_S", 0.1)
    job = make_job(steps=(shell_step("sleep 4321"),), timeout_s=2)

    def kill_watchdog(what: str, share: float | None) -> None:
        if what.startswith("running"):
            real_phone.sh(
                "for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' < $p/cmdline)\" = 'sleep 2 ' ] && kill -9 ${p#/proc/}; done"
            )

    with pytest.raises(RunnerError, match="was stopped after 2 s, the time limit"):
        run(real_phone, job, kill_watchdog)
    assert real_phone.processes("4321") == [] and real_phone.listing("runs") == []


def test_a_run_that_is_killed_on_the_device_is_an_error(any_phone: Phone, make_job: MakeJob, run: Run) -> None:
    def kill(what: str, share: float | None) -> None:
        if what.startswith("running"):
            any_phone.sh(f"cat {any_phone.base}/runs/*/pid | {{ read -r p rest; kill -9 $p; }}")

    with pytest.raises(RunnerError, match="ended on the device from outside"):
        run(any_phone, make_job(steps=(shell_step("sleep 4321"),)), kill)
    assert any_phone.processes("4321") == [] and any_phone.listing("runs") == []


@pytest.mark.parametrize("damage", ["printf X | dd of=F bs=1 seek=7 conv=notrunc", "printf X > F", "rm F", "rm F.ok"])
def test_a_damaged_stored_file_is_noticed(real_phone: Phone, make_job: MakeJob, run: Run, damage: str) -> None:
    job = make_job()
    run(real_phone, job)
    big = real_phone.sh(f"find {real_phone.device.base}/files -size +100k").strip()
    real_phone.sh(damage.replace("F", big))
    raw = run(real_phone, job)
    check_results(raw, job)
    # Without its note a file is hashed again, and good.
    assert raw.transfer["pushed_bytes"] == (0 if damage == "rm F.ok" else BIG)


def test_a_file_that_changes_after_it_was_read_is_refused(any_phone: Phone, make_job: MakeJob, run: Run) -> None:
    job = make_job(sha256={"program.pte": "0" * 64})
    with pytest.raises(RunnerError, match=r"program\.pte: its SHA-256 is no more 0000"):
        run(any_phone, job)
    assert not any(name.startswith("0000") for name in any_phone.listing("files"))


def test_a_phone_that_another_process_uses_is_refused(any_phone: Phone, make_job: MakeJob, run: Run) -> None:
    def second() -> None:
        with pytest.raises(RunnerError, match="in use by process .*a measurement beside another is none"):
            run(any_phone, make_job(key="two"))

    run(any_phone, make_job(), ready=second)
    run(any_phone, make_job())  # the lock is let go


def test_another_job_that_still_runs_there_is_left_alone(any_phone: Phone, make_job: MakeJob, run: Run) -> None:
    any_phone.device.reconnect_s = 0.2
    job = make_job(times=25)
    raised = []

    def drop(what: str, share: float | None) -> None:
        if what.startswith("running timed") and not raised:
            raised.append(what)
            any_phone.drop()

    with pytest.raises(RunnerError, match="goes on without it: give the same command again"):
        run(any_phone, job, drop)
    any_phone.restore()
    any_phone.device.reconnect_s = 20
    with pytest.raises(RunnerError, match=r"another job \(key [0-9a-f]{16}, begun \d+ s ago\) is running"):
        run(any_phone, make_job(key="two"))
    with pytest.raises(RunnerError, match="is running; nothing was removed"):
        any_phone.device.clean()
    raw = run(any_phone, job)
    check_results(raw, job)
    assert raw.transfer["taken_up"]


def test_stale_folders_go_and_others_stay(real_phone: Phone, make_job: MakeJob, run: Run) -> None:
    job = make_job()
    run(real_phone, job)
    runs = f"{real_phone.device.base}/runs"
    boot = real_phone.sh("cat /proc/sys/kernel/random/boot_id").strip()
    for name, pid, finished in (
        (f"{job.key[:16]}-00000001", f"999999 5 {boot} 100", None),  # died
        (f"{job.key[:16]}-00000002", "1 5 other-boot 100", "200"),  # finished before a restart
        (f"{'a' * 16}-00000003", f"999999 5 {boot} 100", "200"),  # another job
        (f"{'b' * 16}-00000004", f"1 5 {boot} 100", None),  # its process id is another's now
        ("somebody's", f"1 5 {boot} 100", None),  # not of ours
    ):
        folder = f'"{runs}/{name}"'
        real_phone.sh(f"mkdir -p {folder}/files; ln -s /etc {folder}/files/link; echo {pid} > {folder}/pid")
        key = job.key if name.startswith(job.key[:16]) else name[0] * 64
        real_phone.sh(f"echo {key} > {folder}/key; " + (f"echo {finished} > {folder}/finished" if finished else ""))
    raw = run(real_phone, job)
    check_results(raw, job)
    assert not raw.transfer["taken_up"]
    assert real_phone.listing("runs") == ["somebody's"]
    assert real_phone.sh("ls /etc/passwd").strip() == "/etc/passwd"


def test_results_are_handed_over_once(
    any_phone: Phone, make_job: MakeJob, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the device was gone before its folder could be removed."""

    def gone(run: Any, remove: bool) -> None:
        raise ConnectionLost("gone")

    with monkeypatch.context() as patch:
        patch.setattr(detached.Run, "stop", gone)
        check_results(run(any_phone, make_job()), make_job())
    assert len(any_phone.listing("runs")) == 1
    assert not run(any_phone, make_job()).transfer["taken_up"]
    assert any_phone.listing("runs") == []


def test_a_start_that_is_repeated_starts_once(any_phone: Phone, make_job: MakeJob, run: Run) -> None:
    """As when the answer to the first got lost."""
    start = detached.Run.start

    def twice(self: detached.Run, note: dict[str, Any]) -> None:
        start(self, note)
        any_phone.sh(f"mv {shlex.quote(self.folder)}/pid {shlex.quote(self.folder)}/first")
        any_phone.sh(f"cd {shlex.quote(self.folder)}; setsid sh job.sh < /dev/null > /dev/null 2>&1 & sleep 0.3")
        assert any_phone.sh(f"[ -e {shlex.quote(self.folder)}/pid ] || echo none").strip() == "none"
        any_phone.sh(f"mv {shlex.quote(self.folder)}/first {shlex.quote(self.folder)}/pid")
        start(self, note)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detached.Run, "start", twice)
        job = make_job(times=10)
        check_results(run(any_phone, job), job)


def test_a_base_that_is_a_link_is_refused(any_phone: Phone, make_job: MakeJob, run: Run, tmp_path: Path) -> None:
    any_phone.sh(f"mkdir -p {any_phone.base}; ln -s /tmp {any_phone.base}/runs")
    with pytest.raises(RunnerError, match="runs is a link, which might lead anywhere"):
        run(any_phone, make_job())


def test_clean_removes_all_of_ours(any_phone: Phone, make_job: MakeJob, run: Run) -> None:
    run(any_phone, make_job())
    any_phone.sh(f"echo x > {any_phone.base}/../another")
    note = place(any_phone.device.adb.serial, COLLECTED)
    note.write_text('["a run that was there"]')
    any_phone.device.clean()
    assert not note.exists()
    assert any_phone.sh(f"[ -e {any_phone.base} ] || echo gone").strip() == "gone"
    assert any_phone.sh(f"cat {shlex.quote(any_phone.device.base.rpartition('/')[0])}/another").strip() == "x"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"files": {"../x": Path("x")}}, r"a file is called '\.\./x'"),
        ({"files": {"/x": Path("x")}}, "a file is called '/x'"),
        ({"files": {"a\nb": Path("x")}}, "a file is called"),
        ({"steps": (Step("a b", ("true",)),)}, "a step is called 'a b'"),
        ({"steps": (Step("..", ("true",)),)}, r"a step is called '\.\.'"),
        ({"steps": (Step("a", ("true",), ("x/../../y",)),)}, "an output of step a is called"),
        ({"steps": (Step("a", ("true",), (), {"X;id": "1"}),)}, "a variable of step a is called 'X;id'"),
        ({"steps": (Step("a", ("true",)), Step("a", ("true",)))}, "unlike the others"),
        ({"cpu_mask": "1; id"}, "the mask of cores is called '1; id'"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(
    make_standin: Callable[..., Phone], make_job: MakeJob, run: Run, change: dict[str, object], text: str
) -> None:
    with pytest.raises(RunnerError, match=text):
        run(make_standin(), make_job(**change))
    with pytest.raises(RunnerError, match="the job's key is called"):
        run(make_standin(), replace(make_job(), key="../../x"))


def test_cancelling_from_another_thread(any_phone: Phone, make_job: MakeJob, run: Run) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(any_phone, make_job(steps=(shell_step("sleep 4321"),)), ready=lambda: later(0.5, any_phone.device.cancel))
    wait_until(lambda: not any_phone.processes("4321"), 2, "the end of the processes")
    assert any_phone.listing("runs") == []

"""Cables pulled, hosts killed, full disks, restarts: nothing is lost that can be kept, nothing wrong is handed back."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from device_runner.devices.adb import push
from device_runner.devices.adb.client import Adb, ConnectionLost
from device_runner.devices.adb.device import AdbDevice
from device_runner.devices.adb.program import AdbProgram, find_program
from device_runner.devices.job import Job, RawJob, Step
from device_runner.errors import RunnerError
from tests.device_runner.devices.adb.conftest import ADBS, BIG, Phone, check_results, later, wait_until

MakeJob = Callable[..., Job]
Run = Callable[..., RawJob]
MakePhone = Callable[..., Phone]
SLEEPER = Step("timed", ("/bin/sh", "-c", "echo began; sleep 4321"))


def drop_for(phone: Phone, seconds: float) -> None:
    phone.drop()
    later(seconds, phone.restore)


def once(at: Callable[[str, float | None], bool], action: Callable[[], None]) -> Callable[[str, float | None], None]:
    """A progress callback that acts the first time that `at` is true."""
    done = []

    def progress(what: str, share: float | None) -> None:
        if not done and at(what, share):
            done.append(what)
            action()

    return progress


def in_run(what: str, share: float | None) -> bool:
    return what.startswith("running timed (") and not what.endswith("(0 lines)")


def mid_push() -> Callable[[str, float | None], bool]:
    """True at the first line that adb writes itself: the first 64 kB are on their way."""
    seen: list[str] = []

    def reached(what: str, share: float | None) -> bool:
        if what == "pushing program.pte":
            seen.append(what)
        return len(seen) > 1

    return reached


def test_a_link_that_drops_in_the_run_loses_nothing(phone: Phone, make_job: MakeJob, run: Run) -> None:
    job = make_job(times=15)
    raw = run(phone, job, once(in_run, lambda: drop_for(phone, 0.5)))
    check_results(raw, job)
    assert raw.transfer["reconnects"] >= 1 and not raw.transfer["taken_up"]


def test_a_link_that_hangs_in_the_run_loses_nothing(real_phone: Phone, make_job: MakeJob, run: Run) -> None:
    """The connection neither ends nor carries anything, as with a lost wireless network."""
    world = real_phone.daemon.world  # pyright: ignore

    def hang() -> None:
        world.link(up=False)
        later(1, lambda: world.link(up=True))

    job = make_job(times=20)
    check_results(run(real_phone, job, once(in_run, hang)), job)


@pytest.mark.parametrize("adb", ["adb-29", "adb-36"])
def test_a_link_that_drops_in_a_push(make_phone: MakePhone, make_job: MakeJob, run: Run, adb: str) -> None:
    phone = make_phone(adb)
    job = make_job(content=os.urandom(64 << 20))
    raw = run(phone, job, once(mid_push(), lambda: drop_for(phone, 0.3)))
    check_results(raw, job)
    assert raw.transfer["reconnects"] >= 1
    assert len(phone.listing("files")) == 4  # two files and their notes, no halves


def test_a_push_that_is_cut_off_for_good(make_phone: MakePhone, make_job: MakeJob, run: Run) -> None:
    phone = make_phone()
    phone.device.reconnect_s = 0.5
    job = make_job(content=os.urandom(64 << 20))
    with pytest.raises(ConnectionLost, match="did not come back within 0.5 s"):
        run(phone, job, once(mid_push(), phone.drop))
    assert phone.listing("runs") == []
    phone.restore()
    phone.device.reconnect_s = 20
    raw = run(phone, job)  # the same command again, and the half is gone
    check_results(raw, job)
    assert not raw.transfer["taken_up"] and len(phone.listing("files")) == 4


def test_a_push_where_there_are_no_terminals(
    real_phone: Phone, make_job: MakeJob, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "IO", Path("/nowhere"))
    monkeypatch.setitem(sys.modules, "pty", None)  # as on Windows
    job = make_job()
    check_results(run(real_phone, job), job)


SEEN = pytest.mark.parametrize("by", ["what it reads", "its own lines"])


def seen(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How a push is watched: the second is the way of systems without Linux's /proc."""
    if by == "its own lines":
        monkeypatch.setattr(push, "IO", Path("/nowhere"))


@SEEN
@pytest.mark.parametrize("adb", ADBS)
def test_a_push_tells_how_far_it_is(
    make_phone: MakePhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adb: str, by: str
) -> None:
    seen(by, monkeypatch)
    files = {letter * 64: tmp_path / letter for letter in "ab"}
    for path in files.values():
        path.write_bytes(os.urandom(40 << 20))
    told: list[tuple[str, float]] = []
    push.push(make_phone(adb).device.adb, files, "/data", lambda name, share: told.append((name, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[0] == 0 and 0.5 <= shares[-1] <= 1
    assert {name for name, _ in told} == set(files)  # in the order in which they go
    assert all((name == "b" * 64) == (share >= 0.5) for name, share in told if abs(share - 0.5) > 0.02)


@SEEN
def test_a_push_that_stands_still(real_phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    seen(by, monkeypatch)
    monkeypatch.setattr(push, "STALL_S", 0.5)
    world = real_phone.daemon.world  # pyright: ignore
    (tmp_path / "big").write_bytes(bytes(64 << 20))
    shares: list[float] = []

    def hang(name: str, share: float) -> None:
        shares.append(share)
        if len(shares) == 2:
            world.link(up=False)

    with pytest.raises(ConnectionLost, match="pushing stands still since 0.5 s"):
        push.push(real_phone.device.adb, {"a" * 64: tmp_path / "big"}, "/data", hang)


def test_an_adb_that_said_all_and_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "IO", Path("/nowhere"))
    monkeypatch.setattr(push, "END_S", 0.3)
    script = tmp_path / "adb"
    script.write_text("#!/bin/sh\necho $$ >>" + f"{tmp_path}/pid\nexec >/dev/null 2>&1\nexec sleep 60\n")
    script.chmod(0o755)
    (tmp_path / "small").write_bytes(b"x")
    adb = Adb(AdbProgram(str(script), "--adb", "36.0.0", (36, 0, 0)), "phone")
    with pytest.raises(ConnectionLost, match="adb said all it had to and did not end in 0.3 s"):
        push.push(adb, {"a" * 64: tmp_path / "small"}, "/data", lambda name, share: None)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)  # nor does it go on


def test_a_link_that_drops_while_results_are_fetched(
    make_phone: MakePhone, make_job: MakeJob, run: Run, tmp_path: Path
) -> None:
    phone = make_phone()
    job = make_job(content=os.urandom(64 << 20))
    drops = []

    def drop_in_pull() -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end and not drops:
            for part in tmp_path.glob("output-*/.fetched-*/steps/timed/copy.bin"):
                if 0 < part.stat().st_size < 60 << 20:
                    drops.append(part.stat().st_size)
                    drop_for(phone, 0.3)
                    break
            time.sleep(0.001)

    def watch() -> None:
        threading.Thread(target=drop_in_pull, daemon=True).start()

    raw = run(phone, job, once(lambda what, share: what == "fetching results", watch))
    check_results(raw, job)
    assert drops and raw.transfer["reconnects"] >= 1


def test_results_that_are_damaged_on_the_way_are_fetched_again(
    make_standin: MakePhone, make_job: MakeJob, run: Run
) -> None:
    phone = make_standin()
    phone.daemon.damage_pulls = 2  # pyright: ignore
    job = make_job()
    check_results(run(phone, job), job)
    assert phone.daemon.damage_pulls == 0  # pyright: ignore
    phone.daemon.damage_pulls = 1000  # pyright: ignore
    with pytest.raises(RunnerError, match="did not arrive as it is on the device"):
        run(phone, job)


def test_a_connection_that_drops_in_mid_push(make_standin: MakePhone, make_job: MakeJob, run: Run) -> None:
    phone = make_standin()
    job = make_job()
    phone.daemon.drop_after = BIG // 2  # pyright: ignore
    check_results(run(phone, job), job)
    assert phone.daemon.received > BIG * 1.4  # pyright: ignore


def test_a_device_that_is_gone_for_too_long_is_taken_up_later(any_phone: Phone, make_job: MakeJob, run: Run) -> None:
    job = make_job(times=12)
    any_phone.device.reconnect_s = 0.2
    with pytest.raises(ConnectionLost, match="bundle, unet goes on without it: give the same command again"):
        run(any_phone, job, once(in_run, any_phone.drop))
    any_phone.restore()
    time.sleep(1.3)  # it ends with nobody there
    any_phone.device.reconnect_s = 20
    raw = run(any_phone, job)
    check_results(raw, job)
    assert raw.transfer["taken_up"] and raw.transfer["pushed_bytes"] == 0 and 0 <= raw.transfer["ended_s_ago"] < 9
    assert raw.state_before["uptime_s"] < raw.state_after["uptime_s"] - 1.2
    assert any_phone.listing("runs") == []
    assert not run(any_phone, make_job(times=1)).transfer["taken_up"]  # handed over once


def bench(phone: Phone, job: Job, tmp_path: Path) -> subprocess.Popen[str]:
    """The same in a process of its own, which prints its progress."""
    (tmp_path / "job.pickle").write_bytes(pickle.dumps(job))
    output = tmp_path / "of process"
    output.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("bench_process.py")), str(phone.program), phone.serial]
        + [phone.device.base, str(tmp_path / "job.pickle"), str(output)],
        stdout=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(f"ended without {beginning!r}")


def test_a_killed_host_loses_nothing(phone: Phone, make_job: MakeJob, run: Run, tmp_path: Path) -> None:
    job = make_job(times=15)
    process = bench(phone, job, tmp_path)
    read_until(process, "running timed (1")
    process.kill()
    process.wait()
    raw = run(phone, job)
    check_results(raw, job)
    assert raw.transfer["taken_up"]


@pytest.mark.parametrize("moment", ["pushing", "ready", "running timed ("])
def test_ctrl_c_stops_and_removes(real_phone: Phone, make_job: MakeJob, tmp_path: Path, moment: str) -> None:
    content = os.urandom(48 << 20) if moment == "pushing" else None
    process = bench(real_phone, make_job(steps=(SLEEPER,), content=content), tmp_path)
    read_until(process, moment)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None and process.stdout.read().splitlines()[-1] == "interrupted"
    assert process.wait(timeout=20) == 130
    assert real_phone.processes("4321") == [] and real_phone.listing("runs") == []
    # The server that others may be using goes on.
    assert "device" in subprocess.run([real_phone.program, "devices"], capture_output=True, text=True).stdout


def test_a_restart_of_the_device_is_told(real_phone: Phone, make_job: MakeJob, run: Run) -> None:
    job = make_job(times=100)
    with pytest.raises(RunnerError, match="the device restarted during the run, which is lost"):
        run(real_phone, job, once(in_run, lambda: real_phone.daemon.reboot()))  # pyright: ignore
    assert real_phone.listing("runs") == []
    job = make_job()
    check_results(run(real_phone, job), job)


def test_too_little_room_is_told_before_anything_is_pushed(make_phone: MakePhone, make_job: MakeJob, run: Run) -> None:
    phone = make_phone(size="32m")
    with pytest.raises(RunnerError, match=r"8\d MB are needed on the device and 3\d MB are free at /data/local"):
        run(phone, make_job(content=bytes(64 << 20)))
    assert phone.listing("files") == []
    with pytest.raises(RunnerError, match=r"120 MB are needed"):
        run(phone, make_job(output_bytes=100_000_000))


@pytest.mark.parametrize("adb", ["adb-29", "adb-36"])
def test_a_disk_that_fills_up_during_the_push(make_phone: MakePhone, make_job: MakeJob, run: Run, adb: str) -> None:
    """adb 36 says "1 file pushed" all the same."""
    lies = {"df": "#!/bin/sh\necho h\necho tmpfs 9999999 0 9999999 0% /data\n"}
    phone = make_phone(adb, size="24m", shims=lies)
    with pytest.raises(RunnerError, match="the device's storage is full"):
        run(phone, make_job(content=os.urandom(32 << 20)))
    job = make_job()
    check_results(run(phone, job), job)  # the half is no more in the way


def test_a_full_disk_as_the_standin_says_it(make_standin: MakePhone, make_job: MakeJob, run: Run) -> None:
    phone = make_standin()
    phone.daemon.full = True  # pyright: ignore
    with pytest.raises(RunnerError, match="the device's storage is full"):
        run(phone, make_job())


def test_a_disk_that_fills_up_during_the_run(make_phone: MakePhone, make_job: MakeJob, run: Run) -> None:
    phone = make_phone(size="40m")
    step = Step(
        "timed",
        (
            "/bin/sh",
            "-c",
            'while :; do cat /dev/zero >> "$1/f$((n = n + 1))" || [ $n -lt 9 ] || exit 0; done',
            "sh",
            "{out}",
        ),
    )
    with pytest.raises(
        RunnerError, match=r"ended on the device from outside: short of memory or storage \(0 MB are free"
    ):
        run(phone, make_job(steps=(step,)))
    assert phone.listing("runs") == []


@pytest.mark.parametrize("shell", ["dash", "mksh", "busybox"])
def test_a_disk_that_is_full_when_a_run_is_laid_out(
    make_phone: MakePhone, make_job: MakeJob, run: Run, shell: str
) -> None:
    lies = {
        "df": '#!/bin/sh\n[ -f /tmp/full ] || exec /usr/bin/df "$@"\necho h\necho tmpfs 9999999 0 9999999 0% /data\n'
    }
    phone = make_phone(size="24m", shell=shell, shims=lies)
    job = make_job()
    run(phone, job)
    phone.sh("cat /dev/zero > /data/filler; cat /dev/zero > /data/more; : > /tmp/full")
    # Only the check before the push believes that there is room.
    with pytest.raises(RunnerError, match="the device's storage is full; free some and try again"):
        run(phone, job)
    phone.sh("rm /data/filler /data/more /tmp/full")
    check_results(run(phone, job), job)


def test_adbd_that_is_restarted_takes_the_run_along(make_phone: MakePhone, make_job: MakeJob, run: Run) -> None:
    """Android's init ends all that adbd ever started together with it."""
    phone = make_phone()

    def restart() -> None:
        phone.drop()
        phone.sh(
            f"p=$(cat {phone.base}/runs/*/pid); p=${{p%% *}}; for s in /proc/[0-9]*/stat; do "
            'read -r l < $s; set -- ${l##*) }; [ "$4" = "$p" ] && s=${s%/stat} && kill -9 ${s#/proc/}; done'
        )
        phone.restore()

    text = r"adbd was restarted on the device \(USB mode changed or USB debugging switched off\).*charging only"
    with pytest.raises(RunnerError, match=text):
        run(phone, make_job(steps=(SLEEPER,), timeout_s=12), once(in_run, restart))
    assert phone.listing("runs") == [] and phone.processes("4321") == []


def test_adbd_is_not_blamed_for_a_run_that_outlived_its_restart(
    make_phone: MakePhone, make_job: MakeJob, run: Run
) -> None:
    phone = make_phone()
    seen: list[str] = []

    def act(what: str, share: float | None) -> None:
        if in_run(what, share):
            seen.append(what)
            if len(seen) == 1:
                drop_for(phone, 0.1)
            if len(seen) == 3:
                phone.sh(f"cat {phone.base}/runs/*/pid | {{ read -r p rest; kill -9 $p; }}")

    with pytest.raises(RunnerError, match="ended on the device from outside: .* or the maker's power saving"):
        run(phone, make_job(steps=(SLEEPER,), timeout_s=12), act)


def test_room_is_made_from_what_was_longest_unused(make_phone: MakePhone, make_job: MakeJob, run: Run) -> None:
    phone = make_phone(size="64m")
    contents = [os.urandom(12 << 20) for _ in range(4)]
    jobs = []
    for minutes, content in zip((30, 20, 10), contents[:3], strict=True):
        jobs.append(make_job(content=content, steps=(Step("timed", ("true",)),)))
        run(phone, jobs[-1])
        phone.sh(f"touch -d '-{minutes} minutes' {phone.base}/files/{hashlib.sha256(content).hexdigest()}.ok")
    run(phone, make_job(content=contents[0], steps=jobs[0].steps))  # used again
    raw = run(phone, make_job(content=contents[3], steps=jobs[0].steps))
    assert raw.transfer["pushed_bytes"] == 12 << 20  # the program is kept too
    assert run(phone, make_job(content=contents[0], steps=jobs[0].steps)).transfer["pushed_bytes"] == 0
    assert phone.sh(f"find {phone.base}/files -size +1000k | wc -l").strip() == "3"


def test_two_devices_need_a_serial(make_phone: MakePhone, make_job: MakeJob, run: Run) -> None:
    first, second = make_phone(), make_phone()
    adb = str(first.program)
    with pytest.raises(RunnerError, match="several devices are connected") as error:
        AdbDevice.from_argument("", adb)
    assert first.serial in str(error.value) and second.serial in str(error.value)
    assert {device.name for device in AdbDevice.find_all(adb)} >= {f"adb:{first.serial}", f"adb:{second.serial}"}
    job = make_job()
    check_results(run(Phone(AdbDevice.from_argument(second.serial, adb), first.program, second.daemon), job), job)
    assert len(second.listing("files")) == 4 and first.listing("files") == []
    second.daemon.close()
    subprocess.run([adb, "disconnect", second.serial], capture_output=True, check=True)
    assert AdbDevice.from_argument("", adb).name == f"adb:{first.serial}"


def test_a_device_that_is_not_there(private_adb: Path) -> None:
    with pytest.raises(RunnerError, match="adb:NOSUCH is not connected; adb lists"):
        AdbDevice.from_argument("NOSUCH", str(private_adb))
    # `adb connect` ends with exit code 0 when it was refused.
    with pytest.raises(RunnerError, match="adb:127.0.0.1:9 cannot be reached: .*refused"):
        AdbDevice.from_argument("127.0.0.1:9", str(private_adb))


def test_an_address_that_adb_does_not_know_yet_is_connected(make_standin: MakePhone) -> None:
    phone = make_standin()
    subprocess.run([phone.program, "disconnect", phone.serial], capture_output=True, check=True)
    assert AdbDevice.from_argument(phone.serial, str(phone.program)).adb.shell("echo here") == "here\n"


def test_a_device_that_is_not_authorized_says_what_to_do(make_standin: MakePhone) -> None:
    phone = make_standin(authorized=False)

    def unauthorized() -> bool:
        listed = subprocess.run([phone.program, "devices"], capture_output=True, text=True).stdout
        return f"{phone.serial}\tunauthorized" in listed

    wait_until(unauthorized, 10, "the state")
    for argument in (phone.serial, ""):
        with pytest.raises(RunnerError, match="unauthorized.*accept the question whether to allow USB debugging"):
            AdbDevice.from_argument(argument, str(phone.program))
    with pytest.raises(RunnerError, match="unauthorized.*unlock it"):
        phone.device.adb.shell("true")


@pytest.mark.parametrize("adb", ["adb-29", "adb-36"])
def test_a_cut_command_is_never_taken_for_a_finished_one(make_phone: MakePhone, adb: str) -> None:
    """adb 29 ends with exit code 0 then."""
    phone = make_phone(adb)
    client = Adb(find_program(str(phone.program)), phone.serial)
    assert client.shell("printf 'no newline'") == "no newline"
    answer = client.shell_answer("echo out; echo err >&2; exit 3")
    assert (answer.code, answer.stdout, answer.stderr) == (3, "out\n", "err\n")
    later(0.4, phone.drop)
    with pytest.raises(ConnectionLost):
        client.shell("echo begun; sleep 3; echo done")
    with pytest.raises(ConnectionLost):
        client.shell("true")
    phone.restore()
    client.wait_back(10)
    assert client.shell("echo back") == "back\n"

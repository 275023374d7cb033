"""Which adb is driven."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from device_runner.devices.adb import program
from device_runner.devices.adb.client import Client
from device_runner.devices.adb.program import AdbProgram, find_program
from device_runner.devices.adb.survey import free_bytes
from device_runner.errors import RunnerError

NEW = "Android Debug Bridge version 1.0.41\nVersion 35.0.2-12147458\nInstalled as /x\n"


def fake(folder: Path, told: str = NEW, body: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "adb"
    path.write_text(f"#!/bin/sh\n{body}\ncat <<'END'\n{told}END\n")
    path.chmod(0o755)
    return path


def test_the_order_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {name: fake(tmp_path / name) for name in ("option", "variable", "path", "sdk/platform-tools", "wheel")}
    monkeypatch.setenv("ADB", str(places["variable"]))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    monkeypatch.setattr(program, "_wheel_places", lambda: [("adbutils", places["wheel"])])

    def found(option: str | None = None) -> tuple[str, str]:
        one = find_program(option)
        return one.path, one.source

    assert found(str(places["option"])) == (str(places["option"]), "--adb")
    assert found() == (str(places["variable"]), "$ADB")
    monkeypatch.delenv("ADB")
    assert found() == (str(places["path"]), "PATH")
    places["path"].unlink()
    monkeypatch.setattr(program.shutil, "which", lambda name: None)
    assert found() == (str(places["sdk/platform-tools"]), "SDK")
    places["sdk/platform-tools"].unlink()
    monkeypatch.delenv("ANDROID_HOME")
    monkeypatch.setattr(program, "_sdk_places", lambda: [("SDK", tmp_path / "nowhere")])
    places["wheel"].chmod(0o644)  # as some installers leave it
    assert found() == (str(places["wheel"]), "adbutils")
    places["wheel"].unlink()
    with pytest.raises(
        RunnerError, match=r"no adb program is found \(looked at --adb, \$ADB, PATH, .*nowhere, .*wheel/adb"
    ):
        find_program()


def test_a_choice_that_points_nowhere_is_no_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{fake(tmp_path / 'path').parent}:/usr/bin:/bin")
    with pytest.raises(RunnerError, match="--adb is '/no/adb', which is no program"):
        find_program("/no/adb")
    monkeypatch.setenv("ADB", str(tmp_path))
    with pytest.raises(RunnerError, match=r"\$ADB is .*which is no program"):
        find_program()


def test_versions(tmp_path: Path) -> None:
    new = find_program(str(fake(tmp_path)))
    assert (new.version, new.release, new.warning) == ("35.0.2-12147458", (35, 0, 2), None)
    assert new.plain_transfer == ("-Z",)
    old = find_program(str(fake(tmp_path, "Android Debug Bridge version 1.0.41\nVersion 29.0.6-debian\n")))
    assert old.release == (29, 0, 6) and "before release 30" in (old.warning or "") and old.plain_transfer == ()
    ancient = find_program(str(fake(tmp_path, "Android Debug Bridge version 1.0.32\nRevision eac51f2bb6a8-android\n")))
    assert ancient.version == "1.0.32" and ancient.warning
    with pytest.raises(RunnerError, match="is not adb"):
        find_program(str(fake(tmp_path, "a shell\n")))
    with pytest.raises(RunnerError, match="is not adb"):
        find_program(str(fake(tmp_path, NEW, "exit 1")))


def test_all_states_are_read(tmp_path: Path) -> None:
    told = (
        "* daemon started successfully\nList of devices attached\n"
        "R58M12               device usb:1-1 product:p model:SM_G99 device:d transport_id:1\n"
        "192.168.1.4:5555     offline transport_id:2\n"
        "adb-X (2)._adb-tls-connect._tcp device product:q model:Pixel_8 device:e transport_id:4\n"
        "????????????         no permissions (user in plugdev group; are your udev rules wrong?); see [http://x]\n\n"
    )
    path = fake(tmp_path, told)
    listed = Client(AdbProgram(str(path), "test", "35", (35,))).devices()
    assert [(device.serial, device.state, device.details, device.usable) for device in listed] == [
        ("R58M12", "device", "SM_G99", True),
        ("192.168.1.4:5555", "offline", "", False),
        ("adb-X (2)._adb-tls-connect._tcp", "device", "Pixel_8", True),
        ("????????????", "no permissions", "", False),
    ]


@pytest.mark.parametrize(
    ("told", "free"),
    [
        ("Filesystem     1K-blocks  Used Available Use% Mounted on\ntmpfs 262144 0 261000 0% /data", 261000),
        (
            "Filesystem\n 1K-blocks Used Available Use% Mounted on\n/dev/block/by-name/very-long\n 100 60 40 60% /data",
            40,
        ),
        (
            "Filesystem      1K-blocks     Used Available Use% Mounted on\n/dev/block/dm-5 117042 97 19 84% /data/user/0",
            19,
        ),
        ("Filesystem               Size     Used     Free   Blksize\n/data   4.0G   1.0G   3.0G   4096", None),
    ],
)
def test_free_space_is_read(told: str, free: int | None) -> None:
    assert free_bytes(told.splitlines()) == (None if free is None else free * 1024)


def test_importing_is_light() -> None:
    code = (
        "import sys; import device_runner.devices.adb.device; "
        "print(*({'torch', 'numpy', 'adbutils', 'psutil', 'rich'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0 and not result.stdout.split(), result.stdout + result.stderr

"""Many questions to a device in one round trip, with each answer under a heading of its own."""

from __future__ import annotations

from collections.abc import Mapping

HEADING = "@mobilevd:"


def batch(commands: Mapping[str, str]) -> str:
    """One command string that runs all commands; the section of a command that the device lacks stays empty.

    A round trip over adb takes 10 to 30 ms, so ten questions asked one by one would be noticeable.
    """
    # The blank line before a heading keeps the heading apart from a file that does not end in a newline.
    return "\n".join(
        f"echo; echo {HEADING}{name}; {{ {text.strip()}\n}} 2>/dev/null" for name, text in commands.items()
    )


def sections(output: str) -> dict[str, str]:
    """Name -> output of the command of that name, from the output of a `batch`."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    # Devices before Android 7 end lines with CR LF.
    for line in output.replace("\r", "").split("\n"):
        if line.startswith(HEADING):
            lines = found.setdefault(line.removeprefix(HEADING).strip(), [])
        else:
            lines.append(line)
    return {name: "\n".join(lines).strip("\n") for name, lines in found.items()}

"""Puts the configurations and the tiny models into wheels; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("configs/*.yaml", "assets/tiny/**/*")


class BuildWithShippedFiles(build_py):
    """Copies what `mobilevd/shipped.py` finds beside the packages in a checkout into the package `mobilevd`."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # the checkout itself is used
        for pattern in SHIPPED:
            for file in sorted(path for path in Path().glob(pattern) if path.is_file()):
                target = Path(self.build_lib) / "mobilevd" / "shipped" / file
                self.mkpath(str(target.parent))
                self.copy_file(str(file), str(target))


setup(cmdclass={"build_py": BuildWithShippedFiles})

"""Building a wheel is refused; everything else about the project stands in setup.cfg."""

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel


class RefusedWheel(bdist_wheel):
    """Stops before anything is built; an editable install only reads the tags of this command."""

    def run(self) -> None:
        raise SystemExit(
            "mtl-bench can't be built as a wheel, because its package `datasets` would overwrite Hugging Face's of the "
            "same name: run it from its checkout, with `pip install -e .`."
        )


setup(cmdclass={"bdist_wheel": RefusedWheel})

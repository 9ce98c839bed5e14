"""`python -m geneface_jax` is the `geneface` command."""

import sys

from geneface_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

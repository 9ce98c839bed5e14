#!/usr/bin/env bash
# Makes .venv, installs this clone in it, and runs the linter, the type checker and the tests.
#
#     ./scripts/test.sh          at most 15 minutes
#     ./scripts/test.sh --all    adds what is slow: several devices, kills, every config; at most 40 minutes; what CI runs
#
# Other arguments go to pytest: ./scripts/test.sh tests/geneface_jax/io -x
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

selection=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
    selection=()
    shift
fi

install_clone test
export JAX_PLATFORMS=cpu
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/.jax_cache}"

say "+ ruff check; ruff format --check; mypy"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check --quiet .
"$PYTHON" -m mypy
# One process a core, at most four: each holds its own compiled programs, about 1 GB.
processes="$("$PYTHON" -c 'import os; print(min(4, os.cpu_count() or 1))')"
say "+ pytest in $processes processes"
exec "$PYTHON" -m pytest -n "$processes" "${selection[@]}" "$@"

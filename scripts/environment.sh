# Sourced by demo.sh and test.sh, from the repository's root: a virtual environment in .venv with this clone installed in it.

MIN_PYTHON="3, 11"
END_PYTHON="3, 14"

say() { printf '%s\n' "$*" >&2; }

# Prints the first Python on PATH that is recent enough and not too recent.
find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11 python; do
        if "$name" -c "import sys; sys.exit(not ($MIN_PYTHON) <= sys.version_info[:2] < ($END_PYTHON))" 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    say "No Python 3.11, 3.12 or 3.13 on PATH: install one, for example with 'apt-get install -y python3 python3-venv'."
    return 2
}

# install_clone EXTRAS: .venv with '-e .[EXTRAS]'; done again only when pyproject.toml or requirements.txt has changed. Sets PYTHON.
install_clone() {
    local extras="$1" python stamp wanted
    if [ ! -x .venv/bin/python ]; then
        python="$(find_python)" || return
        say "+ $python -m venv .venv"
        "$python" -m venv .venv || {
            say "Python can't make a virtual environment: on Debian and Ubuntu type 'apt-get install -y python3-venv'."
            return 2
        }
    fi
    PYTHON="$PWD/.venv/bin/python"
    stamp=".venv/geneface-installed${extras:+-$extras}"
    wanted="$("$PYTHON" -c '
import hashlib, pathlib, sys
files = b"".join(pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "requirements.txt"))
print(hashlib.sha256(files).hexdigest(), sys.version.split()[0], pathlib.Path.cwd())')"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        say "+ pip install -e .${extras:+[$extras]}   (about 1.6 GB on disk; one to two minutes)"
        "$PYTHON" -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}" || return
        printf '%s\n' "$wanted" >"$stamp"
    fi
}

# Installs MediaPipe's system libraries as root with apt, otherwise says what to type. Fails only by leaving them missing.
ensure_system_libraries() {
    local packages
    packages="$("$PYTHON" -m geneface_jax.system_libraries)"
    [ -n "$packages" ] || return 0
    local line="apt-get update && apt-get install -y --no-install-recommends $packages"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "+ $line"
        # shellcheck disable=SC2086  # one word per package
        apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends $packages >&2 || say "That failed; whatever needs them is left out."
    else
        say "MediaPipe needs system libraries that are missing, and whatever needs them is left out until root types: $line"
    fi
}

# Sourced by demo.sh and test.sh, from the repository's root: finds a Python, and lets environment.py do the rest.

MIN_PYTHON="3, 11"
END_PYTHON="3, 14"

say() { printf '%s\n' "$*" >&2; }

# Prints the Python of .venv, else the first one on PATH that is recent enough and not too recent.
find_python() {
    local name
    for name in .venv/bin/python python3 python3.13 python3.12 python3.11 python; do
        if "$name" -c "import sys; sys.exit(not ($MIN_PYTHON) <= sys.version_info[:2] < ($END_PYTHON))" 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    say "No Python 3.11, 3.12 or 3.13 on PATH: install one, for example with 'apt-get install -y python3 python3-venv'."
    return 2
}

# install_clone EXTRAS: .venv with '-e .[EXTRAS]' and MediaPipe's system libraries, as far as they can be had. Sets PYTHON.
install_clone() {
    local python
    python="$(find_python)" || return
    PYTHON="$("$python" scripts/environment.py "$1")"
}

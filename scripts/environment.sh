# Sourced by run, test and check: `ensure_environment EXTRA…` gives .venv with these extras installed, and cds there.
# `.venv/installed-EXTRA` holds the digest of the pyproject.toml that the extra was last installed from.

fail() {
    echo "edgebench: $*" >&2
    exit 2
}

# TensorFlow has no wheels for Python 3.14 yet.
is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if is_supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11, 3.12 or 3.13 in PATH, found $(python3 -V 2>/dev/null || echo none) (install one and run this again)"
}

# Runs a command silently; shows what it said, and ends, if it fails.
quietly() {
    quietly_log=$(mktemp)
    if "$@" >"$quietly_log" 2>&1; then
        rm -f "$quietly_log"
    else
        cat "$quietly_log" >&2
        rm -f "$quietly_log"
        fail "could not set up $root/.venv (command: $*)"
    fi
}

ensure_environment() {
    root=$(cd "$(dirname "$0")/.." && pwd)
    # Two scripts started together must not install into one folder at once.
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$root/.venv.lock"
        flock 9
    fi
    if ! is_supported "$root/.venv/bin/python"; then
        python=$(find_python)
        "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
            fail "$python cannot make virtual environments (on Debian: apt install python3-venv)"
        rm -rf "$root/.venv"
        quietly "$python" -m venv "$root/.venv"
    fi
    digest=$("$root/.venv/bin/python" -c '
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
print(hashlib.sha256(f"{root}\n".encode() + (root / "pyproject.toml").read_bytes()).hexdigest())' "$root")
    wanted=
    for extra in "$@"; do
        if [ "$(cat "$root/.venv/installed-$extra" 2>/dev/null)" != "$digest" ]; then
            wanted="$wanted${wanted:+,}$extra"
        fi
    done
    if [ -n "$wanted" ]; then
        echo "edgebench: installing [$wanted] into .venv, a minute or two the first time" >&2
        quietly "$root/.venv/bin/python" -m pip install --disable-pip-version-check --no-compile -e "$root[$wanted]"
        for extra in "$@"; do
            echo "$digest" >"$root/.venv/installed-$extra"
        done
    fi
    if command -v flock >/dev/null 2>&1; then
        exec 9>&-
    fi
}

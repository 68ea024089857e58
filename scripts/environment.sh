# Sourced by run, test and check: `ensure_environment EXTRA…` gives .venv with these extras installed, and cds there;
# `ensure_programs "PROGRAM…" PACKAGE…` programs of Debian's, where they can be had.
# `.venv/installed-EXTRA` holds the digest of the pyproject.toml that the extra was last installed from; `.venv/unfinished`
# is there while something is being installed, and stays where that was interrupted.

# What .venv holds is compiled as it is first used (see below), and kept there: a process that compiles all that it
# imports takes seconds to start, each time.
unset PYTHONDONTWRITEBYTECODE

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
        [ "$1" = "$root/.venv/bin/python" ] && rm -f "$root/.venv/unfinished" # what pip failed over is whole without it
        fail "could not set up $root/.venv (command: $*)"
    fi
}

# What pip was interrupted over cannot be told from what is whole.
interrupted() {
    rm -f "${quietly_log:-}"
    echo "edgebench: interrupted; the next command makes .venv anew, from what pip has downloaded" >&2
    exit 130
}

ensure_environment() {
    root=$(cd "$(dirname "$0")/.." && pwd)
    # Two scripts started together must not install into one folder at once.
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$root/.venv.lock"
        flock 9
    fi
    trap interrupted INT TERM HUP
    if [ -e "$root/.venv/unfinished" ] || ! is_supported "$root/.venv/bin/python"; then
        python=$(find_python)
        "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
            fail "$python cannot make virtual environments (on Debian: apt install python3-venv)"
        rm -f "$root/.venv/bin/python" # so that half of what follows is told from the whole
        rm -rf "$root/.venv"
        mkdir "$root/.venv"
        : >"$root/.venv/unfinished"
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
        : >"$root/.venv/unfinished"
        quietly "$root/.venv/bin/python" -m pip install --disable-pip-version-check --no-compile -e "$root[$wanted]"
        for extra in "$@"; do
            echo "$digest" >"$root/.venv/installed-$extra"
        done
    fi
    rm -f "$root/.venv/unfinished"
    trap - INT TERM HUP
    if command -v flock >/dev/null 2>&1; then
        exec 9>&-
    fi
}

# Programs from Debian's packages, where these may be installed: as programs, not as services of the machine. Fails
# where that was tried in vain; it is tried once for an environment.
ensure_programs() {
    PATH="$PATH:/usr/sbin"
    programs=$1
    shift
    tried="$root/.venv/tried-$(echo "$*" | tr ' ' '-')"
    missing=
    for program in $programs; do
        command -v "$program" >/dev/null 2>&1 || missing=yes
    done
    if [ -z "$missing" ] || [ "$(id -u)" != 0 ] || [ ! -e /etc/debian_version ] ||
        ! command -v apt-get >/dev/null 2>&1 || [ -e "$tried" ]; then
        return 0
    fi
    echo "edgebench: installing $*" >&2
    packages=$*
    policy=/usr/sbin/policy-rc.d
    made_policy=
    # What was interrupted has not been tried.
    trap 'rm -f $made_policy; echo "edgebench: interrupted; the next command tries to install $packages again" >&2; exit 130' INT TERM HUP
    if [ ! -e "$policy" ]; then
        made_policy=$policy
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    status=0
    apt_install "$@" || { apt-get update -qq >/dev/null 2>&1 && apt_install "$@"; } || status=1
    rm -f $made_policy
    trap - INT TERM HUP
    : >"$tried"
    return $status
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -o DPkg::Lock::Timeout=60 -qq -y --no-install-recommends "$@" >/dev/null 2>&1
}

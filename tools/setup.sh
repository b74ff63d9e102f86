#!/bin/sh
# Builds .venv in the checkout from requirements.lock and installs lateral in it, once; `setup.sh remove` removes it.
#
# A .venv of ours carries a mark, made first, and two stamps, written last: packages.stamp (Python, place of the
# checkout and lock file that it was built for) and lateral.stamp (the pyproject.toml that lateral was installed from).
# While both fit there is nothing to do. A marked one without its stamp was interrupted and is built again. One with
# neither is somebody else's: nothing is done to it.
# PYTHON=/path/to/python chooses the Python; PATH is searched otherwise. LATERAL_VENV is another place than .venv.
set -eu
cd "$(dirname "$0")/.."
venv=${LATERAL_VENV:-.venv}
log=.venv-setup.log

die() {
    printf 'set-up: %s\n' "$*" >&2
    exit 1
}

ours() { [ -f "$1/lateral.mark" ] || [ -f "$1/packages.stamp" ]; }
check_ours() {
    for place in "$venv" "$venv.old"; do
        if [ -e "$place" ] || [ -L "$place" ]; then
            ours "$place" || die "$place was not made by this set-up and is left alone: move it, or name another place" \
                "(make ${1:-lab} VENV=.venv-lateral)"
        fi
    done
}

# Sets $python and $version if $1 runs. A Python inside a virtual environment (perhaps our own .venv, which
# is about to be replaced) is resolved to the one that it was made from. Fails below Python 3.11.
probe() {
    answer=$("$1" -c '
import sys
in_venv = sys.prefix != getattr(sys, "base_prefix", sys.prefix)
print("%d.%d.%d %s" % (sys.version_info[:3] + (sys._base_executable if in_venv else sys.executable,)))
sys.exit(sys.version_info < (3, 11))' 2>/dev/null) && fits=yes || fits=no
    case $answer in [0-9]*.*\ ?*) ;; *) return 1 ;; esac
    version=${answer%% *}
    python=${answer#* }
    [ "$fits" = yes ] || { seen="${seen:+$seen, }$1 is $version"; return 1; }
}

find_python() {
    seen=
    if [ -n "${PYTHON:-}" ]; then
        probe "$PYTHON" && return
        die "lateral needs Python >= 3.11, but ${seen:-PYTHON=$PYTHON does not run}"
    fi
    # The Python of a finished .venv first: whoever built it with PYTHON=... need not say so again.
    for candidate in "$venv/bin/python" python3 python3.13 python3.12 python3.11 python; do
        [ "$candidate" != "$venv/bin/python" ] || [ -f "$venv/packages.stamp" ] || continue
        if probe "$candidate"; then return; fi
    done
    die "lateral needs Python >= 3.11: ${seen:-no Python was found} (name another one with PYTHON=/path/to/python)"
}

# What the stamps must say. cksum is there on every POSIX machine.
wanted_packages() { printf 'Python %s in %s\n%s\n' "$version" "$PWD" "$(cksum requirements.lock)"; }
wanted_lateral() { cksum pyproject.toml; }
packages_done() { [ -x "$venv/bin/python" ] && [ "$(cat "$venv/packages.stamp" 2>/dev/null)" = "$(wanted_packages)" ]; }
lateral_done() { [ "$(cat "$venv/lateral.stamp" 2>/dev/null)" = "$(wanted_lateral)" ]; }

# uv may be a shim that does not run, so ask it. `install` takes what pip and uv pip both understand.
has_uv() { uv --version >/dev/null 2>&1; }
make_venv() {
    mkdir "$venv" && : >"$venv/lateral.mark" || return
    if has_uv; then uv venv --no-project --allow-existing --python "$python" "$venv"; else "$python" -m venv "$venv"; fi
}
install() {
    if has_uv; then
        uv pip install --python "$venv/bin/python" "$@"
    else
        "$venv/bin/python" -m pip install --no-input --disable-pip-version-check "$@"
    fi
}

# Ends in the one line that names the cause; the installer's own words are in the log.
install_failed() {
    if grep -Eiq 'connection|name resolution|lookup address|sending request|network|timed out|proxy|from versions: none' "$log"; then
        die "no network: the packages could not be fetched (details in $log)"
    fi
    die "installing the packages failed (details in $log)"
}

# One set-up at a time: Python locks the lock file and starts this script again. The kernel gives the lock back
# when the last process that holds it ends, however it ends. A file system without locks does without.
under_lock() {
    [ -z "${LATERAL_SETUP_LOCKED:-}" ] || return 0
    exec "$python" -c '
import fcntl, os
os.environ["LATERAL_SETUP_LOCKED"] = "yes"
descriptor = os.open("requirements.lock", os.O_RDONLY)
os.set_inheritable(descriptor, True)
try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Waiting for another set-up of this checkout ...", flush=True)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
except OSError:
    pass
os.execvp("sh", ["sh", "tools/setup.sh"])'
}

# Whatever ends this script (an error, Ctrl-C): no half-made .venv stays, and a finished one that was being
# replaced comes back. Its stamp still tells that it is out of date.
tidy_up() {
    if [ ! -f "$venv/packages.stamp" ]; then
        rm -rf "$venv"
        [ ! -d "$venv.old" ] || mv "$venv.old" "$venv"
    fi
    rm -rf "$venv.old"
}

build() {
    if ! has_uv && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        die "$python has no venv module: install it (on Debian and Ubuntu the package python3-venv) or uv"
    fi
    has_uv && tool=uv || tool=pip
    printf 'Building %s with %s for Python %s, once: a minute or two ...\n' "$venv" "$tool" "$version"
    [ ! -f "$venv/packages.stamp" ] || { rm -rf "$venv.old"; mv "$venv" "$venv.old"; }
    rm -rf "$venv"
    make_venv >>"$log" 2>&1 || die "making $venv with $python failed (details in $log)"
    install -r requirements.lock >>"$log" 2>&1 || install_failed
    wanted_packages >"$venv/packages.stamp"
}

if [ "${1:-}" = remove ]; then
    check_ours clean
    rm -rf "$venv" "$venv.old" "$log"
    exit
fi
find_python
if packages_done && lateral_done; then exit; fi
check_ours

under_lock
trap tidy_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
(: >"$log") 2>/dev/null || die "cannot write to $PWD"
packages_done || build
if ! lateral_done; then
    # A .venv made by uv has no pip of its own: without uv it is made anew.
    has_uv || "$venv/bin/python" -m pip --version >/dev/null 2>&1 || build
    # The build backend, flit_core, is in the lock: nothing is fetched here.
    install --no-deps --no-build-isolation --editable . >>"$log" 2>&1 || die "installing lateral failed (details in $log)"
    wanted_lateral >"$venv/lateral.stamp"
fi
rm -f "$log"

#!/bin/sh
# Makes .venv with what the lock files pin, by uv where it can be had, else by pip.
# usage: deploy/setup.sh runtime|dev
set -eu
cd "$(dirname "$0")/.."
kind=${1:-runtime}
lock="requirements/$kind.lock"
stamp=".venv/.$kind-$(cat "$lock" pyproject.toml | cksum | cut -d' ' -f1)"
[ -e "$stamp" ] && exit 0

python=
for candidate in ${TIPLINE_PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    echo "setup: no Python 3.11 or newer found. Install one, or name it: TIPLINE_PYTHON=/path/to/python3 make setup" >&2
    exit 69
fi

# One set-up at a time; a lock whose owner is gone is taken over.
until mkdir .setup-lock 2>/dev/null; do
    owner=$(cat .setup-lock/pid 2>/dev/null || true)
    if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then rm -rf .setup-lock; else sleep 1; fi
done
trap 'rm -rf .setup-lock' EXIT INT TERM
echo $$ > .setup-lock/pid
[ -e "$stamp" ] && exit 0

export UV_SYSTEM_CERTS=true UV_PYTHON_DOWNLOADS=never PIP_DISABLE_PIP_VERSION_CHECK=1
echo "setup: preparing .venv ($kind) ..." >&2
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    boot=".venv-boot"
    "$python" -m pip install --quiet --target "$boot" 'uv>=0.9' >/dev/null 2>&1 && uv="$boot/bin/uv"
fi
by_uv() {
    [ -n "$uv" ] || return 1
    [ -x .venv/bin/python ] || "$uv" venv --quiet --python "$(command -v "$python")" .venv || return 1
    "$uv" pip install --quiet --python .venv/bin/python --require-hashes -r "$lock" || return 1
    "$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e . || return 1
}
by_pip() {
    [ -x .venv/bin/pip ] || { rm -rf .venv; "$python" -m venv .venv; }
    .venv/bin/pip install --quiet --require-hashes -r "$lock"
    .venv/bin/pip install --quiet --no-deps --no-build-isolation -e .
}
by_uv || by_pip || { echo "setup: could not install $lock. Is the package index reachable, and is there room on the disk?" >&2; exit 69; }
rm -rf .venv-boot
rm -f .venv/."$kind"-*
: > "$stamp"

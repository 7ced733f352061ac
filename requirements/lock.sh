#!/bin/sh
# Writes the two lock files anew: every package with its hashes, no index address.
set -eu
cd "$(dirname "$0")/.."
UV=${UV:-uv}
export UV_SYSTEM_CERTS=true
lock() { "$UV" pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet "$@"; }
printf 'hatchling>=1.27\neditables\n' > requirements/.build.in
lock pyproject.toml --extra distributed requirements/.build.in -o requirements/runtime.lock
lock pyproject.toml --extra distributed --extra train --group dev requirements/.build.in -c requirements/runtime.lock -o requirements/dev.lock
rm requirements/.build.in

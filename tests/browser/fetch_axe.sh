#!/bin/sh
# Fetches axe-core, which looks for what keeps people with an impairment out, into .tools/axe.min.js of this checkout.
# Needs npm. Does nothing when it is there already.
set -eu
cd "$(dirname "$0")/../.."
version=4.11.0
sum=e9e5863c33a874f09bc01acd9234b7e3c871479f5eef8802fa582544465e6d01
[ -e .tools/axe.min.js ] && exit 0
if ! command -v npm >/dev/null 2>&1; then
    echo "fetch_axe: npm is missing: install it, or put axe-core $version's axe.min.js into .tools" >&2
    exit 69
fi
mkdir -p .tools/draft
(cd .tools/draft && npm pack --silent "axe-core@$version" >/dev/null && tar -xzf "axe-core-$version.tgz" package/axe.min.js) || {
    echo "fetch_axe: npm could not fetch axe-core. Is the registry of packages reachable?" >&2
    exit 69
}
echo "$sum  .tools/draft/package/axe.min.js" | sha256sum --check --quiet || exit 65
mv .tools/draft/package/axe.min.js .tools/axe.min.js
rm -rf .tools/draft

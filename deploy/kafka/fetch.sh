#!/bin/sh
# Fetches Kafka's jars (43 MB) into .kafka/libs of this checkout, for `make test` and for trying things by hand.
# Needs Maven and Java 17. Does nothing when they are there already.
set -eu
cd "$(dirname "$0")/../.."
stamp=".kafka/libs/.$(cksum < deploy/kafka/pom.xml | cut -d' ' -f1)"
[ -e "$stamp" ] && exit 0
if ! command -v mvn >/dev/null 2>&1; then
    echo "fetch: Maven is missing: install it (apt-get install maven), or put the jars of Kafka 4.1 into .kafka/libs" >&2
    exit 69
fi
rm -rf .kafka/draft
mkdir -p .kafka/draft
mvn --batch-mode --quiet -f deploy/kafka/pom.xml dependency:copy-dependencies \
    -DoutputDirectory="$PWD/.kafka/draft" -DincludeScope=runtime >&2 || {
    echo "fetch: Maven could not fetch Kafka's jars. Is the repository of packages reachable?" >&2
    exit 69
}
: > ".kafka/draft/${stamp##*/}"
rm -rf .kafka/libs
mv .kafka/draft .kafka/libs

#!/usr/bin/env bash
# Installs Knot and Unbound, the upstreams in the tests of forward, cache and loop, with the
# system's package manager if that needs no password. Without them those tests skip themselves and
# say so.
set -euo pipefail
PATH=$PATH:/usr/sbin:/usr/local/sbin

missing=()
command -v knotd >/dev/null || missing+=(knot)
command -v unbound >/dev/null || missing+=(unbound)
((${#missing[@]})) || exit 0
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "install: apt-get install --no-install-recommends ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if { apt-get -qq update &&
        apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >/dev/null; then
        exit 0
    fi
fi
echo "install: !!! ${missing[*]^^} MISSING: the tests of forward, cache and loop with real" \
     "upstreams ARE SKIPPED." >&2
echo "install: install the packages and run ./check.sh again" \
     "(Debian: apt-get install --no-install-recommends ${missing[*]})." >&2
exit 1

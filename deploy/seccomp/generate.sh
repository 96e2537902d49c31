#!/usr/bin/env bash
# Writes ringdns.json from containerd's default profile, at the version in generate/go.mod; with
# --check, compares instead. Needs Go, on amd64.
#
# Exit codes: 0 it is written, or as it should be; 1 it differs, or Go failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/generate"
export GOWORK=off CGO_ENABLED=0 GOFLAGS=-mod=readonly

if [[ ${1:-} == --check ]]; then
    diff <(go run .) ../ringdns.json && echo "seccomp: ringdns.json is up to date"
else
    profile=$(go run .)
    printf '%s\n' "$profile" >../ringdns.json
fi

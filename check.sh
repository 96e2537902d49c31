#!/usr/bin/env bash
# Everything that must hold before a commit, and all that CI runs. Stops at the first stage that fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# stage NAME COMMAND...: runs the command from the root of the repository and says how long it took.
stage() {
    local name=$1 began=$SECONDS
    shift
    echo "check: $name: $*"
    if ! "$@"; then
        echo "check: FAILED after $SECONDS s: $name. To run it alone: $*" >&2
        exit 1
    fi
    echo "check: $name: done in $((SECONDS - began)) s"
}

skipped=
stage "format" cargo fmt --all --check
stage "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
stage "build" cargo build --workspace --bins --tests --locked # in one go: ringdns must be there before its tests start
if command -v go >/dev/null; then
    stage "servers to compare with" deploy/e2e/build.sh
else
    skipped="check: !!! GO IS MISSING: the tests against a real API server and beside CoreDNS ARE SKIPPED."
    skipped+=" Install Go 1.26 or newer and run ./check.sh again."
    echo "$skipped" >&2
fi
deploy/e2e/install.sh || skipped+=" (Knot and Unbound: see above)" # As root on Debian it installs them.
stage "tests" cargo test --workspace --locked
echo "check: everything passed in $SECONDS s${skipped:+, EXCEPT WHAT WAS SKIPPED}"

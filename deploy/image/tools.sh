#!/usr/bin/env bash
# Installs what build.sh needs beside Rust and cmake, at fixed versions: Zig, whose C compiler and
# linker know musl for every architecture, and cargo-zigbuild, which puts it to use.
set -euo pipefail

zig=0.15.2
zigbuild=0.24.1

if [[ $(python3 -m ziglang version 2>/dev/null) != "$zig" ]]; then
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet "ziglang==$zig"
fi
if [[ $(cargo-zigbuild --version 2>/dev/null) != *" $zigbuild" ]]; then
    cargo install --quiet --locked cargo-zigbuild --version "$zigbuild"
fi

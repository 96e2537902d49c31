#!/usr/bin/env bash
# build.sh ARCH FOLDER: builds the content of the image for amd64 or arm64 into FOLDER.
#
# /ringdns is a static binary that permits CAP_NET_BIND_SERVICE to whoever runs it. The CA
# certificates are this system's, for `forward . tls://…`. The empty folders are where Kubernetes
# mounts files, which a read-only file system could not have created. Root is needed for the
# capability. Exit codes: 0 it is there; 1 something failed, and why is above.
set -euo pipefail

case ${1:-} in
    amd64) target=x86_64-unknown-linux-musl ;;
    arm64) target=aarch64-unknown-linux-musl ;;
    *) echo "build.sh: '${1:-}' is not an architecture of this image: amd64 or arm64" >&2; exit 1 ;;
esac
folder=${2:?"build.sh: name the folder for the image's content"}
authorities=/etc/ssl/certs/ca-certificates.crt
[[ -s $authorities ]] || { echo "build.sh: $authorities is missing: apt-get install ca-certificates" >&2; exit 1; }
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

rustup target add "$target"
cargo zigbuild --release --locked --bin ringdns --package engine --target "$target"

mkdir -p "$folder/etc/coredns" "$folder/var/run/secrets/kubernetes.io/serviceaccount"
install -D -m 0644 "$authorities" "$folder$authorities"
install -m 0755 "${CARGO_TARGET_DIR:-target}/$target/release/ringdns" "$folder/ringdns"
# Permitted, not in force: ringdns raises it itself, and can say so where it was dropped.
setcap cap_net_bind_service=+p "$folder/ringdns"

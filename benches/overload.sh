#!/usr/bin/env bash
# Overloads ringdns with 1.5 times what it can answer: how much is still answered, how much is
# dropped and whether the drops are counted, and how memory changes.
#
#   benches/overload.sh [-l SECONDS] [-i uring|mmsg]
#
# One shard on core 0 (SERVER_CORE), the generator on core 1 (GENERATOR_CORE). A closed loop with
# 256 queries in flight finds the saturation; then an open loop offers 1.5 times as much. Nothing
# leaves loopback; it takes SECONDS plus about 10.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. benches/port.sh

seconds=30 io=uring
while getopts l:i: flag; do
    case $flag in
        l) seconds=$OPTARG ;; i) io=$OPTARG ;;
        *) sed -n '5,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
    esac
done
server_core=${SERVER_CORE:-0} generator_core=${GENERATOR_CORE:-1}
bin=${CARGO_TARGET_DIR:-target}/release
cargo build --quiet --release --locked -p engine -p loadgen --bins
tmp=$(mktemp -d) pid=
trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null || true; rm -rf "$tmp"' EXIT
benches/cluster.awk -v dir="$tmp"
port=$(free_port) metrics=$(free_port)
cat >"$tmp/Corefile" <<CONF
.:$port {
    bind 127.0.0.1
    errors
    prometheus 127.0.0.1:$metrics
    kubernetes cluster.local {
        manifests $tmp/cluster.yaml
    }
    loadbalance
}
CONF
"$bin/ringdns" -conf "$tmp/Corefile" --io "$io" --shards 1 --cores "$server_core" \
    >"$tmp/log" 2>&1 &
pid=$!
for _ in {1..50}; do
    "$bin/loadgen" -p "$port" -d "$tmp/a.txt" --count 1 -t 0.2 >/dev/null 2>&1 && break
    sleep 0.1
done

# load FLAGS…: one run; figure NAME: a number of its report.
load() {
    "$bin/loadgen" -p "$port" -d "$tmp/a.txt" -t 1 --cores "$generator_core" --server-pid "$pid" \
        "$@" --json "$tmp/json" >"$tmp/loadgen.log" 2>&1
}
figure() {
    awk -F'[:,]' -v name="$1" \
        '{ gsub(/[ "]/, "") } $1 == name { print $2 + 0; exit }' "$tmp/json"
}
dropped() {
    curl -s "http://127.0.0.1:$metrics/metrics" |
        awk '/^ringdns_/ && /reason="socket_full"/ { print $2 + 0 }'
}
rss_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"; }

load -q 256 -l 5
saturation=$(figure answered_qps)
offered=$(awk -v qps="$saturation" 'BEGIN { printf "%d", 1.5 * qps }')
before_kib=$(rss_kib) before_dropped=$(dropped)
load -Q "$offered" -l "$seconds"
sleep 2 # Drops are counted once per second.
awk -v saturation="$saturation" -v offered="$offered" -v sent="$(figure sent_qps)" \
    -v answered="$(figure answered_qps)" -v before="$before_kib" -v after="$(rss_kib)" \
    -v dropped=$(($(dropped) - before_dropped)) -v lost="$(figure timed_out)" -v io="$io" 'BEGIN {
    printf "ringdns --io %s: saturation %d/s (closed loop, 256 in flight)\n", io, saturation
    printf "offered %d/s, sent %d/s, answered %d/s: %.2f of saturation\n", offered, sent, answered,
        answered / saturation
    printf "memory %d KiB before, %d KiB after; ", before, after
    printf "%d queries without a response, of which ringdns counted %d as dropped by its socket\n",
        lost, dropped
}'

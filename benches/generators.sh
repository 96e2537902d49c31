#!/usr/bin/env bash
# Compares loadgen with dnsperf: the same bare echo, query file and window, one core each,
# interleaved rounds. Prints the responses and queries per second of every round, and the ratio of
# the medians.
#
#   benches/generators.sh [-n ROUNDS] [-e uring|mmsg|gro]
#
# The echo runs on core 0 (SERVER_CORE), the generators on core 1 (GENERATOR_CORE), with 256 queries
# in flight. Nothing leaves loopback.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. benches/port.sh

rounds=5 echo_io=uring passes=1000
while getopts n:e: flag; do
    case $flag in
        n) rounds=$OPTARG ;; e) echo_io=$OPTARG ;;
        *) sed -n '6,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
    esac
done
if ! command -v dnsperf >/dev/null; then
    echo "generators: dnsperf is not installed: run apt-get install dnsperf" >&2
    exit 1
fi
server_core=${SERVER_CORE:-0} generator_core=${GENERATOR_CORE:-1}
bin=${CARGO_TARGET_DIR:-target}/release
cargo build --quiet --release --locked -p loadgen -p benches --bins
tmp=$(mktemp -d) pid=
trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null || true; rm -rf "$tmp"' EXIT
benches/cluster.awk -v dir="$tmp"
port=$(free_port)
"$bin/echo" --io "$echo_io" --core "$server_core" "127.0.0.1:$port" &
pid=$!
sleep 0.3

# run NAME COMMAND…: appends "NAME responses q/s CPU-seconds" to $tmp/runs, from dnsperf's
# statistics block, which both print.
run() {
    local name=$1 cpu
    shift
    cpu=$({ TIMEFORMAT='%U %S'; time taskset -c "$generator_core" "$@" -s 127.0.0.1 -p "$port" \
        -d "$tmp/a.txt" -q 256 -n "$passes" -t 1 >"$tmp/out" 2>"$tmp/err"; } 2>&1)
    awk -v name="$name" -v cpu="$cpu" '
        /Queries completed/ { responses = $3 } /Queries per second/ { qps = $4 }
        END { split(cpu, part, " "); print name, responses, qps, part[1] + part[2] }' "$tmp/out" |
        tee -a "$tmp/runs"
}
for ((round = 1; round <= rounds; round++)); do
    run dnsperf dnsperf
    run loadgen "$bin/loadgen" --dnsperf
done
for name in dnsperf loadgen; do
    awk -v name="$name" '$1 == name { print $3, $2 / $4 }' "$tmp/runs" | sort -n |
        awk -v name="$name" '{ qps[NR] = $1; sum += $2 }
            END { print name, qps[int((NR + 1) / 2)], sum / NR }'
done | awk '{ qps[$1] = $2; cpu[$1] = $3 } END {
    printf "loadgen / dnsperf: %.2f x the queries per second (medians), ",
        qps["loadgen"] / qps["dnsperf"]
    printf "%.2f x the responses per CPU second (means)\n", cpu["loadgen"] / cpu["dnsperf"] }'

#!/usr/bin/env bash
# Compares ringdns with CoreDNS, bare echoes and, if installed, Knot, NSD, Unbound and BIND: the
# same names, one server core, one generator core, interleaved rounds. Prints medians and ratios
# with their spread, and writes them to benches/results.
#
#   benches/side-by-side.sh [-n ROUNDS] [-l SECONDS] [-r ROW,ROW…] [-s SERVER,SERVER…] [-o FILE]
#
# Rows: a256 a32 a1 nxdomain nxdomain-many srv pod ptr external tcp8x64 tcp64x4 same-node. Cores:
# SERVER_CORE=0 GENERATOR_CORE=1. In the row same-node, servers (node-…) and clients run on all
# cores; dnsperf measures the same servers. COREDNS=PATH uses that binary; BEFORE=PATH measures that
# ringdns too, as …ringdns-before. Takes rows x servers x rounds x (seconds + 0.2), and same-node
# about six times as long as a row; nothing leaves loopback; it stops what it started, by process
# id.
# Exit codes: 0 measured; 1 a server did not start or answered wrongly; 2 bad flags, or one core.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=5 seconds=3 only= out=
rows=a256,a32,a1,nxdomain,nxdomain-many,srv,pod,ptr,external,tcp8x64,tcp64x4,same-node
while getopts n:l:r:s:o: flag; do
    case $flag in
        n) rounds=$OPTARG ;; l) seconds=$OPTARG ;; r) rows=$OPTARG ;; s) only=$OPTARG ;;
        o) out=$OPTARG ;;
        *) sed -n '6,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
    esac
done
server_core=${SERVER_CORE:-0} generator_core=${GENERATOR_CORE:-1}
if (($(nproc) < 2)); then
    echo "side-by-side: this machine has one core for both server and generator, so the figures" \
         "would mean nothing" >&2
    exit 2
fi
out=${out:-benches/results/$(date +%F)-$(uname -n).md}
target=${CARGO_TARGET_DIR:-target} bin=${CARGO_TARGET_DIR:-target}/release
tmp=$(mktemp -d)
declare -a servers=() pids=()
declare -A pid_of=() port_of=() command_of=()
trap end EXIT
trap 'exit 130' INT TERM

end() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$tmp"
}

main() {
    . benches/port.sh
    build
    benches/cluster.awk -v dir="$tmp"
    start_upstream
    if [[ $rows != same-node ]]; then
        start_echoes
        start_ringdns
        start_coredns coredns 1
        . benches/others.sh
        start_others
    fi
    if [[ ,$rows, == *,same-node,* ]]; then
        . benches/same-node.sh
        start_node
    fi
    if awk '{ exit !($1 > 0.5) }' <<<"$load_before"; then
        echo "side-by-side: !!! THIS MACHINE IS BUSY (load $load_before): THE FIGURES BELOW ARE" \
             "UNRELIABLE" >&2
    fi
    : >"$tmp/runs"
    for row in ${rows//,/ }; do
        if [[ $row == same-node ]]; then measure_same_node; else measure "$row"; fi
    done
    mkdir -p "$(dirname "$out")"
    report | sed "s|$tmp|CLUSTER|g" | tee "$out"
    echo "side-by-side: written to $out" >&2
}

build() {
    cargo build --release --locked -p engine -p loadgen -p benches --bins
    coredns=${COREDNS:-$target/e2e/bin/coredns}
    [[ -x $coredns ]] || deploy/e2e/build.sh
}

# is_wanted NAME: whether -s includes this server.
is_wanted() { [[ -z $only || ,$only, == *,$1,* ]]; }

# start NAME PORT COMMAND…: starts it in the background, pinned to CORES (SERVER_CORE); waits until
# it responds over TRANSPORT (udp).
start() {
    local name=$1 port=$2 cores=${CORES:-$server_core}
    shift 2
    taskset -c "$cores" "$@" >"$tmp/$name.log" 2>&1 </dev/null 9>&- &
    pids+=($!) pid_of[$name]=$! port_of[$name]=$port servers+=("$name")
    command_of[$name]="taskset -c $cores $*"
    for _ in {1..50}; do
        kill -0 "${pid_of[$name]}" 2>/dev/null || break
        if "$bin/loadgen" -p "$port" -m "${TRANSPORT:-udp}" -d "$tmp/a.txt" --count 1 -t 0.2 \
            >/dev/null 2>&1; then
            # The first responses may be SERVFAIL, until the server has read the cluster.
            sleep 0.5
            return
        fi
        sleep 0.1
    done
    echo "side-by-side: $name does not respond; its last lines:" >&2
    tail -5 "$tmp/$name.log" >&2
    exit 1
}

start_echoes() {
    local port io
    for io in uring mmsg bare tcp; do
        is_wanted "echo-$io" || continue
        port=$(free_port)
        TRANSPORT=$([[ $io == tcp ]] && echo tcp || echo udp) \
            start "echo-$io" "$port" "$bin/echo" --io "$io" "127.0.0.1:$port"
    done
}

# External names: the same Services under another zone, which the servers then cache.
start_upstream() {
    upstream=$(free_port)
    sed 's/cluster\.local/upstream.test/' "$tmp/a.txt" >"$tmp/external.txt"
    cat >"$tmp/upstream.conf" <<EOF
upstream.test:$upstream {
    bind 127.0.0.1
    kubernetes upstream.test {
        manifests $tmp/cluster.yaml
        ttl 3600
    }
}
EOF
    taskset -c "$generator_core" "$bin/ringdns" -conf "$tmp/upstream.conf" --shards 1 --io mmsg \
        >"$tmp/upstream.log" 2>&1 </dev/null 9>&- &
    pids+=($!)
}

# corefile PORT OBJECTS: the default plugins that affect an answer, with `errors`, `prometheus` and
# `cache`.
corefile() {
    cat <<EOF
.:$1 {
    bind 127.0.0.1
    errors
    prometheus 127.0.0.1:$(free_port)
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        $2
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    forward . 127.0.0.1:$upstream
    cache 30
    loadbalance
}
EOF
}

start_ringdns() {
    local port name
    for name in ringdns-uring ringdns-before ringdns-mmsg ringdns-busy-poll; do
        is_wanted "$name" || continue
        local flags=(--io uring) binary=$bin/ringdns
        if [[ $name == ringdns-before ]]; then
            [[ -n ${BEFORE:-} ]] || continue
            binary=$BEFORE
        fi
        [[ $name == ringdns-mmsg ]] && flags=(--io mmsg)
        [[ $name == ringdns-busy-poll ]] && flags+=(--busy-poll 50us)
        port=$(free_port)
        corefile "$port" "manifests $tmp/cluster.yaml" >"$tmp/$name.corefile"
        start "$name" "$port" "$binary" -conf "$tmp/$name.corefile" \
            --shards 1 --cores "$server_core" "${flags[@]}"
    done
}

# start_coredns NAME THREADS
start_coredns() {
    is_wanted "$1" || return 0
    [[ -e $tmp/hold ]] || start_api_server
    local port
    port=$(free_port)
    corefile "$port" "endpoint http://$(<"$tmp/api_server")" >"$tmp/$1.corefile"
    start "$1" "$port" env GOMAXPROCS="$2" "$coredns" -conf "$tmp/$1.corefile"
}

start_api_server() {
    mkfifo "$tmp/hold"
    "$bin/api_server" "$tmp/cluster.yaml" <"$tmp/hold" >"$tmp/api_server" &
    pids+=($!)
    exec 9>"$tmp/hold" # The API server stops when this closes.
    for _ in {1..50}; do [[ -s $tmp/api_server ]] && break; sleep 0.1; done
    if [[ ! -s $tmp/api_server ]]; then
        echo "side-by-side: api_server did not start" >&2
        exit 1
    fi
}

# row_flags ROW: loadgen's flags, then the rcode that every response must have.
row_flags() {
    case $1 in
        a256) echo "-d $tmp/a.txt -q 256" NOERROR ;;
        a32) echo "-d $tmp/a.txt -q 32" NOERROR ;;
        a1) echo "-d $tmp/a.txt -q 1" NOERROR ;;
        nxdomain) echo "-d $tmp/nxdomain.txt -q 256" NXDOMAIN ;;
        nxdomain-many) echo "-d $tmp/nxdomain-many.txt -q 256" NXDOMAIN ;;
        srv) echo "-d $tmp/srv.txt -q 256" NOERROR ;;
        pod) echo "-d $tmp/pod.txt -q 256" NOERROR ;;
        ptr) echo "-d $tmp/ptr.txt -q 256" NOERROR ;;
        external) echo "-d $tmp/external.txt -q 256" NOERROR ;;
        tcp8x64) echo "-d $tmp/a.txt -m tcp -c 8 -q 512" NOERROR ;;
        tcp64x4) echo "-d $tmp/a.txt -m tcp -c 64 -q 256" NOERROR ;;
        *) echo "side-by-side: unknown row '$1'" >&2; return 1 ;;
    esac
}

# is_for ROW SERVER: an echo supports one transport; busy polling matters only for the latency of
# rows that leave the core idle.
is_for() {
    case $1/$2 in
        */node-*) return 1 ;;
        # These have no upstream.
        external/knot | external/nsd | external/unbound | external/bind) return 1 ;;
        tcp*/echo-tcp) return 0 ;;
        tcp*/echo-* | */echo-tcp) return 1 ;;
        a1/ringdns-busy-poll | a32/ringdns-busy-poll) return 0 ;;
        */ringdns-busy-poll) return 1 ;;
    esac
}

measure() {
    local row=$1 round name flags rcode
    flags=$(row_flags "$row")
    rcode=${flags##* } flags=${flags% *}
    for name in "${servers[@]}"; do
        # Warm-up of caches and branch predictors; not counted.
        if is_for "$row" "$name"; then run "$row" "$name" 0 "$rcode" 0.5 "$flags"; fi
    done
    for ((round = 1; round <= rounds; round++)); do
        echo "side-by-side: $row, round $round of $rounds" >&2
        for name in "${servers[@]}"; do
            if is_for "$row" "$name"; then
                run "$row" "$name" "$round" "$rcode" "$seconds" "$flags"
            fi
        done
    done
}

# loadgen_command NAME SECONDS FLAGS
loadgen_command() {
    echo "$bin/loadgen -s 127.0.0.1 -p ${port_of[$1]} $3 -l $2 -t 1 --cores $generator_core" \
        "--server-pid ${pid_of[$1]}"
}

# run ROW NAME ROUND RCODE SECONDS FLAGS: appends one line to $tmp/runs, except for round 0.
run() {
    local row=$1 name=$2 round=$3 rcode=$4 try figures
    for try in 1 2 3; do
        if ! $(loadgen_command "$name" "$5" "$6") --json - >"$tmp/json" 2>"$tmp/loadgen.log"; then
            echo "side-by-side: cannot measure $row of $name: $(tail -3 "$tmp/loadgen.log")" >&2
            exit 1
        fi
        figures=$(figures)
        case $figures in
            *" $rcode") ;;
            *)
                if [[ $name != echo-* ]]; then
                    echo "side-by-side: $name answers $row with '${figures##* }', not $rcode" >&2
                    exit 1
                fi
                ;;
        esac
        if ((round == 0)); then return; fi
        # If the CPU time is near zero, another server took the load.
        if awk '{ exit !($1 * $2 / 1e9 >= 0.01) }' <<<"$figures"; then
            echo "$row $name $round $figures" >>"$tmp/runs"
            sleep 0.2
            return
        fi
        echo "side-by-side: DISCARDED: $name used almost no CPU in $row, round $round" \
            "(try $try): $figures" >&2
    done
}

# figures: prints, from $tmp/json: q/s, CPU ns per query, p50 and p99.9 in ns, share lost, the
# generator's busy share, rcodes.
figures() {
    awk -F'[:,]' '
        { gsub(/[ "]/, "") }
        $1 == "answered_qps" { qps = $2 }
        $1 == "server_cpu_ns_per_answer" { cpu = $2 + 0 }
        $1 == "p50_ns" && !p50 { p50 = $2 }
        $1 == "p99_9_ns" && !p999 { p999 = $2 }
        $1 == "loss" { loss = $2 }
        $1 == "busy_max" { busy = $2 }
        /^rcodes:/ { in_rcodes = 1; next }
        in_rcodes && /^[A-Z]/ { rcodes = rcodes (rcodes ? "+" : "") $1 }
        /^latency:/ { in_rcodes = 0 }
        END {
            print qps + 0, cpu + 0, p50 + 0, p999 + 0, loss + 0, busy + 0, rcodes ? rcodes : "none"
        }
    ' "$tmp/json"
}

report() {
    local name row flags
    echo "# Side by side, $(date -u '+%F %H:%M') UTC"
    echo
    echo "- machine: $(uname -n), $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)," \
        "$(nproc) cores;" \
        "load before and after: ${load_before} → $(cut -d' ' -f1 /proc/loadavg)"
    echo "- kernel: $(uname -sr)"
    echo "- commit: $(git describe --always --dirty --abbrev=12), $(rustc --version)"
    echo "- command: benches/side-by-side.sh -n $rounds -l $seconds -r $rows${only:+ -s $only}"
    echo "- server on core $server_core, generator on core $generator_core, except in same-node;" \
        "$rounds interleaved rounds of $seconds s; medians, (min–max) of the rounds"
    if is_wanted coredns || is_wanted node-coredns; then
        echo "- $("$coredns" -version | head -1)"
    fi
    [[ -z ${missing:-} ]] || echo "- NOT INSTALLED, so not measured:$missing"
    for row in ${rows//,/ }; do
        if [[ $row == same-node ]]; then report_same_node; continue; fi
        flags=$(row_flags "$row")
        awk -v row="$row" -v flags="${flags% *}" -f benches/summary.awk "$tmp/runs"
    done
    echo
    echo "## Commands"
    echo
    echo "\`benches/cluster.awk -v dir=CLUSTER\` writes CLUSTER. The Corefile of each server:"
    echo
    sed 's/^/    /' "$tmp"/*.corefile
    echo
    for name in "${servers[@]}"; do
        if [[ $name != node-* ]]; then
            echo "- $name: \`${command_of[$name]}\`;" \
                "load: \`$(loadgen_command "$name" "$seconds" ROW)\`"
        fi
    done
    if [[ ,$rows, == *,same-node,* ]]; then report_node_commands; fi
}

load_before=$(cut -d' ' -f1 /proc/loadavg)
main

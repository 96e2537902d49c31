# The row same-node of side-by-side.sh: clients on the servers' node. Neither is pinned, and servers
# have their default flags, except where their name says otherwise. loadgen and dnsperf measure the
# same processes in interleaved rounds. Sourced, not run.

start_node() {
    local name cores
    cores=$(taskset -cp $$)
    cores=${cores##* }
    CORES=$cores start_coredns node-coredns "$(nproc)"
    for name in node-ringdns node-ringdns-hash node-ringdns-busy-poll node-ringdns-before; do
        is_wanted "$name" || continue
        local flags=() binary=$bin/ringdns port
        case $name in
            node-ringdns-hash) flags=(--steer hash) ;;
            node-ringdns-busy-poll) flags=(--busy-poll 50us) ;;
            node-ringdns-before)
                [[ -n ${BEFORE:-} ]] || continue
                binary=$BEFORE
                ;;
        esac
        port=$(free_port)
        corefile "$port" "manifests $tmp/cluster.yaml" >"$tmp/$name.corefile"
        CORES=$cores start "$name" "$port" "$binary" -conf "$tmp/$name.corefile" "${flags[@]}"
    done
    if ! command -v dnsperf >/dev/null; then
        missing="${missing:-} dnsperf"
        echo "side-by-side: !!! dnsperf IS NOT INSTALLED: same-node has no figures of it" >&2
    fi
}

node_servers() { printf '%s\n' "${servers[@]}" | grep '^node-' || true; }

node_command() {
    local name specs=()
    for name in $(node_servers); do
        specs+=("$name=127.0.0.1:${port_of[$name]}@${pid_of[$name]}")
    done
    echo "$bin/loadgen compare --same-node ${specs[*]} -d $tmp/a.txt --rounds $rounds" \
        "-l $seconds -t 1"
}

measure_same_node() {
    local name round window
    if (($(node_servers | wc -l) < 2)); then
        echo "side-by-side: !!! same-node COMPARES TWO SERVERS OR MORE (-s node-coredns," \
            "node-ringdns, …): NOT MEASURED" >&2
        return
    fi
    echo "side-by-side: same-node, loadgen" >&2
    if ! $(node_command) >"$tmp/same-node" 2>"$tmp/loadgen.log"; then
        echo "side-by-side: cannot measure same-node: $(tail -3 "$tmp/loadgen.log")" >&2
        exit 1
    fi
    command -v dnsperf >/dev/null || return 0
    for ((round = 1; round <= rounds; round++)); do
        echo "side-by-side: same-node, dnsperf, round $round of $rounds" >&2
        for window in 1 64; do
            for name in $(node_servers); do run_dnsperf "$name" "$window"; done
        done
    done
}

dnsperf_command() {
    echo "dnsperf -s 127.0.0.1 -p ${port_of[$1]} -d $tmp/a.txt -c 32 -q $2 -l $seconds -t 1"
}

# run_dnsperf NAME WINDOW: appends "NAME WINDOW µs-on-average q/s" to $tmp/dnsperf.
run_dnsperf() {
    if ! $(dnsperf_command "$1" "$2") >"$tmp/out" 2>"$tmp/err"; then
        echo "side-by-side: cannot measure $1 with dnsperf: $(tail -3 "$tmp/err")" >&2
        exit 1
    fi
    awk -v name="$1" -v window="$2" '
        /Average Latency/ { latency = $4 } /Queries per second/ { qps = $4 }
        END { print name, window, latency * 1e6, qps }' "$tmp/out" >>"$tmp/dnsperf"
}

# spread COLUMN NAME WINDOW: "median (min–max)" of a column of $tmp/dnsperf.
spread() {
    awk -v column="$1" -v name="$2" -v window="$3" \
        '$1 == name && $2 == window { print $column }' "$tmp/dnsperf" | sort -g |
        awk '{ value[NR] = $1 } END {
            middle = int((NR + 1) / 2)
            median = NR % 2 ? value[middle] : (value[middle] + value[middle + 1]) / 2
            printf "%.0f (%.0f–%.0f)", median, value[1], value[NR] }'
}

report_same_node() {
    local name
    [[ -e $tmp/same-node ]] || return 0
    printf '\n## same-node: servers and clients on all cores\n\n'
    sed 's/^/    /' "$tmp/same-node"
    [[ -e $tmp/dnsperf ]] || return 0
    printf '\nThe same servers, by dnsperf. It sleeps between single queries: one at a time, its\n'
    printf 'latency includes its own wake-up, and its rate says nothing.\n\n'
    echo "| server | one at a time: average latency µs | 64 in flight: average latency µs | q/s |"
    echo "|---|---|---|---|"
    for name in $(node_servers); do
        echo "| $name | $(spread 3 "$name" 1) | $(spread 3 "$name" 64) | $(spread 4 "$name" 64) |"
    done
}

# report_node_commands: the lines of node servers in the report's list of commands.
report_node_commands() {
    local name
    [[ -e $tmp/same-node ]] || return 0
    for name in $(node_servers); do echo "- $name: \`${command_of[$name]}\`"; done
    echo "- load of same-node: \`$(node_command)\`"
    name=$(node_servers | head -1)
    [[ ! -e $tmp/dnsperf ]] || echo "- dnsperf: \`$(dnsperf_command "$name" 1)\`, and with 64"
}

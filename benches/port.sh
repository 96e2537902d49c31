# Sourced by the scripts beside it.

# free_port: a port that no socket of this machine has, UDP or TCP. Two servers on one port would share its queries
# silently (SO_REUSEPORT).
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        if ! awk -v port="$(printf ':%04X' "$port")" 'index($2, port) { found = 1 } END { exit !found }' \
            /proc/net/{udp,udp6,tcp,tcp6}; then
            echo "$port"
            return
        fi
    done
}

# Sourced by the other scripts of this folder.

# free_port: prints a port that no UDP or TCP socket of this machine uses. Two servers on one port
# would silently share its queries (SO_REUSEPORT).
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        if ! awk -v port="$(printf ':%04X' "$port")" '
            index($2, port) { found = 1 } END { exit !found }' /proc/net/{udp,udp6,tcp,tcp6}; then
            echo "$port"
            return
        fi
    done
}

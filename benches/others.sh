# Other servers for side-by-side.sh: the same names as static zones, one thread, no logs. Sourced,
# not run.

missing=

start_others() {
    local name binary port
    for name in knot nsd unbound bind; do
        is_wanted "$name" || continue
        case $name in
            knot) binary=knotd ;;
            nsd) binary=nsd ;;
            unbound) binary=unbound ;;
            bind) binary=named ;;
        esac
        if ! command -v "$binary" >/dev/null; then
            missing+=" $name"
            echo "side-by-side: !!! $binary IS NOT INSTALLED: $name is not measured" >&2
            continue
        fi
        port=$(free_port)
        mkdir -p "$tmp/$name"
        "${name}_config" "$port" >"$tmp/$name.conf"
        case $name in
            knot) start knot "$port" knotd -c "$tmp/knot.conf" ;;
            nsd) start nsd "$port" nsd -d -c "$tmp/nsd.conf" ;;
            unbound) start unbound "$port" unbound -d -c "$tmp/unbound.conf" ;;
            bind) start bind "$port" named -g -n 1 -c "$tmp/bind.conf" ;;
        esac
    done
}

knot_config() {
    cat <<EOF
server:
    rundir: $tmp/knot
    listen: 127.0.0.1@$1
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: $tmp/knot
zone:
  - domain: cluster.local
    file: $tmp/cluster.local.zone
  - domain: 10.in-addr.arpa
    file: $tmp/10.in-addr.arpa.zone
EOF
}

nsd_config() {
    cat <<EOF
server:
    ip-address: 127.0.0.1@$1
    server-count: 1
    username: ""
    pidfile: ""
    database: ""
    zonesdir: $tmp
    zonelistfile: $tmp/nsd/zone.list
    xfrdfile: $tmp/nsd/xfrd.state
    tcp-count: 256
zone:
    name: cluster.local
    zonefile: cluster.local.zone
zone:
    name: 10.in-addr.arpa
    zonefile: 10.in-addr.arpa.zone
remote-control:
    control-enable: no
EOF
}

unbound_config() {
    cat <<EOF
server:
    interface: 127.0.0.1
    port: $1
    num-threads: 1
    username: ""
    chroot: ""
    pidfile: ""
    directory: $tmp/unbound
    use-syslog: no
    incoming-num-tcp: 256
    local-zone: 10.in-addr.arpa nodefault
auth-zone:
    name: cluster.local
    zonefile: $tmp/cluster.local.zone
    for-upstream: no
auth-zone:
    name: 10.in-addr.arpa
    zonefile: $tmp/10.in-addr.arpa.zone
    for-upstream: no
EOF
}

bind_config() {
    cat <<EOF
options {
    directory "$tmp/bind";
    pid-file none;
    session-keyfile none;
    listen-on port $1 { 127.0.0.1; };
    listen-on-v6 { none; };
    recursion no;
    tcp-clients 256;
    minimal-responses yes;
};
controls { };
zone "cluster.local" { type primary; file "$tmp/cluster.local.zone"; };
zone "10.in-addr.arpa" { type primary; file "$tmp/10.in-addr.arpa.zone"; };
EOF
}

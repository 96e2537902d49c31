#!/bin/sh
# Goes back from ringdns to the DNS server that the cluster had before.
#
# Exit codes: 0 done; 1 an invalid command line; 2 nothing to go back to, or kubectl failed.
set -u

kubectl=${KUBECTL:-kubectl}

usage() {
    cat <<END
Usage: rollback.sh [-n] [-c NAME] [-w SECONDS]

  -n          only print what would be done
  -c NAME     the name of ringdns's image, without registry and tag (default: ringdns)
  -w SECONDS  how long to wait for the pods to be ready (default: 60)
  -h          print this

If ringdns runs in the Deployment coredns, its last revision with an image of another name comes
back. If ringdns shares the Service kube-dns (kubernetes/shared), the Deployment coredns is scaled
up again and that of ringdns is deleted. If neither is so, nothing is changed.
END
}

# fail CODE MESSAGE
fail() {
    echo "rollback.sh: $2" >&2
    exit "$1"
}

ask() {
    "$kubectl" --namespace kube-system get --ignore-not-found "$@" ||
        fail 2 "cannot read the cluster: kubectl says why above"
}

run() {
    echo "kubectl --namespace kube-system $*"
    [ -n "$dry" ] || "$kubectl" --namespace kube-system "$@" ||
        fail 2 "kubectl failed: what it did so far stays; run this again once it can work"
}

# Waits until the pods are ready. If they never are, names those that no node takes.
settle() {
    status="rollout status deployment coredns --timeout=${wait}s"
    echo "kubectl --namespace kube-system $status"
    # shellcheck disable=SC2086 # The words are arguments.
    [ -n "$dry" ] || "$kubectl" --namespace kube-system $status && return
    pending=$(ask pods -l 'k8s-app in (kube-dns, coredns)' --field-selector=status.phase=Pending \
        -o 'jsonpath={.items[*].metadata.name}') || exit 2
    [ -z "$pending" ] || fail 2 "the Deployment coredns is not ready after $wait s; these pods are \
Pending: $pending: if kubectl describe names anti-affinity rules, CoreDNS's podAntiAffinity keeps \
them off nodes with ringdns's pods; \"Pending pods\" in deploy/README.md has the patch; then run \
this again"
    fail 2 "the Deployment coredns is not ready after $wait s: look at the log of its pods; what was \
done so far stays; then run this again"
}

dry='' wait=60 ours=ringdns
while getopts nc:w:hi:d:m:v: flag; do
    case $flag in
        n) dry=yes ;;
        c) ours=$OPTARG ;;
        w) wait=$OPTARG ;;
        h) usage && exit 0 ;;
        i | d | m | v)
            fail 1 "-$flag: there is no manifest of kube-dns here; this goes back to the server \
that the cluster had"
            ;;
        *) usage >&2 && exit 1 ;;
    esac
done
case $wait in '' | *[!0-9]*) fail 1 "-w $wait: not a number of seconds" ;; esac
case $ours in '' | *[/:@]*) fail 1 "-c $ours: not a name without registry and tag" ;; esac

image='{.spec.template.spec.containers[0].image}'

shared=$(ask deployment coredns-ringdns -o name) || exit 2
if [ -n "$shared" ]; then
    [ -n "$(ask deployment coredns -o name)" ] ||
        fail 2 "there is no Deployment kube-system/coredns to go back to"
    replicas=$(ask deployment coredns -o 'jsonpath={.spec.replicas}') || exit 2
    if [ "$replicas" = 0 ]; then
        replicas=$(ask deployment coredns-ringdns -o 'jsonpath={.spec.replicas}') || exit 2
        run scale deployment coredns --replicas="$replicas"
    fi
    settle
    run delete deployment coredns-ringdns
    exit 0
fi

now=$(ask deployment coredns -o "jsonpath=$image") || exit 2
[ -n "$now" ] || fail 2 "there is no Deployment kube-system/coredns"
# The name of an image, without registry, tag and digest.
name=${now%%@*} name=${name##*/} name=${name%%:*}
if [ "$name" != "$ours" ]; then
    [ -z "$(ask daemonset coredns-node -o name)" ] || fail 2 "ringdns runs in the DaemonSet \
kube-system/coredns-node: \"On every node\" in deploy/README.md has its way back"
    echo "the Deployment kube-system/coredns runs $now, already another server (-c NAME if this is \
ringdns)"
    settle
    exit 0
fi
# Lines of: the name of the owner, the revision, the image.
owner='{.metadata.ownerReferences[0].name}'
number='{.metadata.annotations.deployment\.kubernetes\.io/revision}'
revisions=$(ask replicasets -o "jsonpath={range .items[*]}$owner $number $image{'\\n'}{end}") || exit 2
revision=$(printf '%s\n' "$revisions" | awk -v ours="$ours" '
    # Another version of ringdns is not another server.
    function name(image) { sub(/@.*/, "", image); sub(/.*\//, "", image); sub(/:.*/, "", image)
        return image }
    NF == 3 && $1 == "coredns" && name($3) != ours && $2 + 0 > last { last = $2 + 0 }
    END { print last }')
[ -n "$revision" ] ||
    fail 2 "the Deployment kube-system/coredns has no revision with another image than $now"
run rollout undo deployment coredns --to-revision="$revision"
settle

#!/usr/bin/env bash
# Builds the programs that the end-to-end tests run beside ringdns: etcd, kube-apiserver, CoreDNS,
# kubectl, helm, kubeconform and promtool, at the versions in tools/*/go.mod, into
# ${CARGO_TARGET_DIR:-target}/e2e/bin. Programs that are up to date are not built again. Beside them
# it puts the definition of ServiceMonitors, which the chart can render.
#
# With names it builds only those programs. No test needs Prometheus, so only `build.sh prometheus`
# builds it (for deploy/monitoring/picture).
#
# Exit codes: 0 all are up to date; 3 Go is missing, nothing was built; 1 a build failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$root/$target ;; esac
bin=$target/e2e/bin

if ! command -v go >/dev/null; then
    echo "e2e: !!! GO IS MISSING: etcd, kube-apiserver, CoreDNS, kubectl, helm, kubeconform and" \
         "promtool cannot be built, so all tests with one of them ARE SKIPPED." \
         "Install Go 1.26 or newer and run deploy/e2e/build.sh again." >&2
    exit 3
fi

# No DWARF and less garbage collection in the compiler: saves a quarter of a cold build, with the
# same machine code.
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off
gcflags=all=-dwarf=false
strip="-s -w"

wanted=" ${*:-kube-apiserver etcd etcd-old coredns kubectl helm kubeconform promtool definition} "

# build NAME MODULE_DIR PACKAGE [LINKER_FLAGS]
build() {
    local name=$1 module=$here/tools/$2 package=$3 ldflags="$strip ${4:-}" stamp key began
    [[ $wanted == *" $name "* ]] || return 0
    stamp=$bin/$name.built-from
    key=$(cd "$module" && { go version; echo "$package $gcflags $ldflags"; cat go.mod go.sum; } |
        sha256sum | cut -d' ' -f1)
    if [[ -x $bin/$name && -f $stamp && $(<"$stamp") == "$key" ]]; then
        echo "e2e: $name is up to date"
        return
    fi
    echo "e2e: building $name ($package) with $(cd "$module" && go env GOVERSION) ..."
    began=$SECONDS
    if ! (cd "$module" && GOGC=${GOGC:-800} go build -trimpath \
        -gcflags="$gcflags" -ldflags="$ldflags" -o "$bin/$name.new" "$package"); then
        cat >&2 <<EOF
e2e: building $name failed after $((SECONDS - began)) s.
     Likely causes: the Go module proxy is unreachable ('go env GOPROXY' prints it); Go is older
     than the 'go' line of deploy/e2e/tools/$2/go.mod; the disk is full (the build cache takes
     3 GB: 'df -h "\$(go env GOCACHE)"').
     For details: cd deploy/e2e/tools/$2 && go build -x -o /dev/null $package
EOF
        exit 1
    fi
    mv "$bin/$name.new" "$bin/$name"
    echo "$key" >"$stamp"
    echo "e2e: built $name in $((SECONDS - began)) s"
}

mkdir -p "$bin"
kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$here/tools/kubernetes/go.mod")
minor=$(cut -d. -f2 <<<"$kubernetes")
version=k8s.io/component-base/version
version="-X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=$minor"
build kube-apiserver kubernetes k8s.io/kubernetes/cmd/kube-apiserver "$version"
build etcd kubernetes go.etcd.io/etcd/server/v3
build etcd-old etcd_old go.etcd.io/etcd/server/v3
build coredns coredns github.com/coredns/coredns
build kubectl deploy k8s.io/kubernetes/cmd/kubectl "$version"
chartutil=helm.sh/helm/v3/pkg/chartutil
build helm deploy helm.sh/helm/v3/cmd/helm \
    "-X $chartutil.k8sVersionMajor=1 -X $chartutil.k8sVersionMinor=$minor"
build kubeconform deploy github.com/yannh/kubeconform/cmd/kubeconform
build promtool promtool github.com/prometheus/prometheus/cmd/promtool
build prometheus promtool github.com/prometheus/prometheus/cmd/prometheus

operator=github.com/prometheus-operator/prometheus-operator@v0.85.0
definition=monitoring.coreos.com_servicemonitors.yaml
if [[ $wanted != *" definition "* ]]; then
    exit 0
fi
if [[ ! -f $bin/$definition || $(<"$bin/$definition.from") != "$operator" ]]; then
    (cd "$bin" && go mod download "$operator")
    cp "$(go env GOMODCACHE)/$operator/example/prometheus-operator-crd/$definition" "$bin/"
    chmod u+w "$bin/$definition"
    echo "$operator" >"$bin/$definition.from"
fi

#!/bin/sh
# Prints a manifest of ringdns for `kubectl apply -f -`, with the flags of CoreDNS's deploy.sh.
# Nothing is changed in the cluster, which is only asked for what a flag does not say.
#
# Exit codes: 0 printed; 1 an invalid command line; 2 the cluster does not say what is needed.
set -u

here=$(cd "$(dirname "$0")" && pwd)
kubectl=${KUBECTL:-kubectl}

usage() {
    cat <<END
Usage: deploy.sh [-r CIDR]... [-i IP] [-d DOMAIN] [-t FILE] [-s] | kubectl apply -f -
       deploy.sh CIDR [DOMAIN]            the same as -r CIDR -d DOMAIN

  -r CIDR    serve the reverse zone of CIDR; repeat it for several (default: all, which is
             in-addr.arpa and ip6.arpa)
  -i IP      the address of the Service kube-dns (default: the one that it has)
  -d DOMAIN  the cluster's domain (default: cluster.local)
  -t FILE    a template with the words CLUSTER_DNS_IP, CLUSTER_DOMAIN, REVERSE_CIDRS,
             UPSTREAMNAMESERVER and STUBDOMAINS, instead of kubernetes/base
  -s         ignore the cluster's configuration: neither convert the ConfigMap of kube-dns
             (stubDomains, upstreamNameservers) nor keep CoreDNS's Corefile, if there is one
  -h         print this

The image is \$IMAGE (default: the one in kubernetes/base/deployment.yaml).
END
}

# fail CODE MESSAGE
fail() {
    echo "deploy.sh: $2" >&2
    exit "$1"
}

# read_cluster WHAT ARGUMENT...: what kubectl prints; nothing if the object does not exist.
read_cluster() {
    what=$1
    shift
    "$kubectl" --namespace kube-system get --ignore-not-found "$@" ||
        fail 2 "cannot read $what: kubectl says why above; $hint"
}

# words KEY: the JSON of a key of kube-dns's ConfigMap (standard input) as lines of words: for an
# object of lists, a line per name with its servers behind it; for a list, its strings.
words() {
    awk -v key="$1" '
        function fail(why) {
            print "deploy.sh: " key " of the ConfigMap kube-system/kube-dns: " why \
                "; correct it, or skip its conversion with -s" > "/dev/stderr"
            failed = 1
            exit 1
        }
        # The next token; the text of a string begins with a quote.
        function next_token() {
            sub(/^[ \t\r\n]+/, "", text)
            if (match(text, /^"[^"\\]*"/)) {
                token = substr(text, 1, RLENGTH - 1)
                text = substr(text, RLENGTH + 1)
                if (token !~ /^"[][A-Za-z0-9._:%*-]+$/)
                    fail("not a name or an address: " substr(token, 2))
            } else {
                token = substr(text, 1, 1)
                text = substr(text, 2)
                if (token == "" || index("{}[]:,", token) == 0)
                    fail("not JSON at: " token substr(text, 1, 20))
            }
        }
        function list(    servers) {
            if (token != "[") fail("expected a list of servers, not " token)
            next_token()
            while (token != "]") {
                if (token !~ /^"/) fail("expected a server in quotes, not " token)
                servers = servers " " substr(token, 2)
                next_token()
                if (token == ",") next_token()
                else if (token != "]") fail("expected a comma, not " token)
            }
            return servers
        }
        { text = text $0 "\n" }
        END {
            if (failed || text !~ /[^ \t\r\n]/) exit failed
            next_token()
            if (token == "[") {
                print substr(list(), 2)
            } else if (token == "{") {
                next_token()
                while (token != "}") {
                    if (token !~ /^"/) fail("expected a domain in quotes, not " token)
                    domain = substr(token, 2)
                    next_token()
                    if (token != ":") fail("expected a colon, not " token)
                    next_token()
                    servers = list()
                    if (servers != "") print domain servers
                    next_token()
                    if (token == ",") next_token()
                    else if (token != "}") fail("expected a comma, not " token)
                }
            } else {
                fail("expected { or [, not " token)
            }
            gsub(/[ \t\r\n]+/, " ", text)
            sub(/^ /, "", text)
            if (text != "") fail("more text at the end: " substr(text, 1, 20))
        }'
}

# The template that kubernetes/base is: its objects, with the words of a template for its defaults.
default_template() {
    image=${IMAGE:-$(sed -n 's/^ *image: //p' "$here/kubernetes/base/deployment.yaml")}
    parts="rbac config service deployment"
    if [ -n "$has_corefile" ]; then
        parts="rbac service deployment"
    fi
    for part in $parts; do
        echo ---
        cat "$here/kubernetes/base/$part.yaml" || exit 1
    done | sed -e 's/clusterIP: .*/clusterIP: CLUSTER_DNS_IP/' \
        -e 's/kubernetes cluster.* {/kubernetes CLUSTER_DOMAIN REVERSE_CIDRS {/' \
        -e 's/forward \. .* {/forward . UPSTREAMNAMESERVER {/' \
        -e 's/^    }$/    }STUBDOMAINS/' \
        -e "s|image: .*|image: $image|"
}

cidrs='' ip='' domain='' template='' skip=''
while getopts r:i:d:t:sk:h flag; do
    case $flag in
        r) cidrs="$cidrs $OPTARG" ;;
        i) ip=$OPTARG ;;
        d) domain=$OPTARG ;;
        t) template=$OPTARG ;;
        s) skip=yes ;;
        k) echo "deploy.sh: -k does nothing, as in CoreDNS's deploy.sh" >&2 ;;
        h) usage && exit 0 ;;
        *) usage >&2 && exit 1 ;;
    esac
done
shift $((OPTIND - 1))
for word; do
    case $word in
        */*) cidrs="$cidrs $word" ;;
        *)
            [ -z "$domain" ] || fail 1 "two domains, $domain and $word: a cluster has one"
            domain=$word
            ;;
    esac
done
cidrs=${cidrs# }
cidrs=${cidrs:-in-addr.arpa ip6.arpa}
domain=${domain:-cluster.local}
for word in $cidrs $domain $ip ${IMAGE:-}; do
    case $word in
        *[!A-Za-z0-9.:/_@-]*) fail 1 "not a name, an address or a CIDR: $word" ;;
    esac
done
[ -z "$template" ] || [ -r "$template" ] || fail 1 "cannot read the template $template"

if [ -z "$ip" ]; then
    hint="give the address with -i"
    ip=$(read_cluster "the Service kube-dns" service kube-dns -o 'jsonpath={.spec.clusterIP}') ||
        exit 2
    [ -n "$ip" ] || fail 2 "there is no Service kube-system/kube-dns; $hint"
fi

upstreams=/etc/resolv.conf stubs=''
if [ -z "$skip" ]; then
    hint="use -s to do without"
    for key in federations upstreamNameservers stubDomains; do
        json=$(read_cluster "the ConfigMap kube-dns" configmap kube-dns \
            -o "jsonpath={.data.$key}") || exit 2
        [ -z "$json" ] || case $key in
            federations)
                echo "deploy.sh: federations of kube-dns are left out: DNS servers no longer have" \
                    "them" >&2
                ;;
            upstreamNameservers)
                upstreams=$(printf '%s' "$json" | words "$key") || exit 2
                upstreams=${upstreams:-/etc/resolv.conf}
                ;;
            stubDomains)
                stubs=$(printf '%s' "$json" | words "$key") || exit 2
                ;;
        esac
    done
fi

has_corefile=''
if [ -z "$template" ] && [ -z "$skip" ]; then
    has_corefile=$(read_cluster "the ConfigMap coredns" configmap coredns -o name) || exit 2
fi
if [ -n "$has_corefile" ]; then
    echo "deploy.sh: the cluster's ConfigMap kube-system/coredns stays as it is and is used:" \
        "-r, -d and the ConfigMap of kube-dns change nothing. To replace it, use -s" >&2
fi

if [ -n "$template" ]; then
    cat "$template"
else
    default_template
fi | IP=$ip DOMAIN=$domain CIDRS=$cidrs UPSTREAMS=$upstreams STUBS=$stubs awk '
    # Replaces a word by text in which & and \ mean nothing.
    function replaced(line, word, text,    at, done) {
        while ((at = index(line, word)) > 0) {
            done = done substr(line, 1, at - 1) text
            line = substr(line, at + length(word))
        }
        return done line
    }
    BEGIN {
        count = split(ENVIRON["STUBS"], lines, "\n")
        for (i = 1; i <= count; i++) {
            domain = lines[i]
            sub(/ .*/, "", domain)
            servers = substr(lines[i], length(domain) + 2)
            blocks = blocks "\n    " domain ":53 {\n        errors\n        cache 30\n" \
                "        loop\n        forward . " servers " {\n            max_concurrent 1000\n        }\n    }"
        }
    }
    {
        line = replaced($0, "CLUSTER_DNS_IP", ENVIRON["IP"])
        line = replaced(line, "CLUSTER_DOMAIN", ENVIRON["DOMAIN"])
        line = replaced(line, "REVERSE_CIDRS", ENVIRON["CIDRS"])
        line = replaced(line, "UPSTREAMNAMESERVER", ENVIRON["UPSTREAMS"])
        print replaced(line, "STUBDOMAINS", blocks)
    }'

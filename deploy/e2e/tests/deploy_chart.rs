//! The Helm chart: what it renders is accepted, values of CoreDNS's chart mean the same, and wrong
//! ones are refused.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use e2e::admission::Outcome;
use e2e::judge::{Judge, Rendering};
use e2e::objects::text;
use e2e::rendering::{charted, deploy_folder, kustomized, only, output};
use e2e::tools::{self, Clients};
use serde_json::{Value, json};

/// One cluster at a time: two would only slow each other down.
static ALONE: Mutex<()> = Mutex::new(());

/// Sets of values that clusters use.
const VARIANTS: [(&str, &str); 8] = [
    ("default", "{}"),
    (
        "high availability",
        "{replicaCount: 3, podDisruptionBudget: {maxUnavailable: 1}, topologySpreadConstraints: \
         [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: \
         ScheduleAnyway, labelSelector: {matchLabels: {app.kubernetes.io/name: '{{ template \
         \"coredns.name\" . }}'}}}]}",
    ),
    (
        "node",
        "{deployment: {enabled: false}, daemonset: {enabled: true}, priorityClassName: \
         system-node-critical, tolerations: [{operator: Exists}], k8sAppLabelOverride: kube-dns, \
         service: {name: kube-dns, clusterIP: 10.96.0.10, trafficDistribution: PreferSameNode}}",
    ),
    (
        "hpa",
        "{hpa: {enabled: true, minReplicas: 2, maxReplicas: 9, metrics: [{type: Resource, \
         resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}], behavior: \
         {scaleDown: {stabilizationWindowSeconds: 600}}}}",
    ),
    (
        "autoscaler",
        "{autoscaler: {enabled: true, min: 2, max: 20, customFlags: [--nodelabels=zone=a], \
         replicaCount: 2, podDisruptionBudget: {maxUnavailable: 1}, podAnnotations: {a: b}, \
         configmap: {annotations: {a: b}}}}",
    ),
    (
        "monitored",
        "{prometheus: {service: {enabled: true}, monitor: {enabled: true, interval: 15s, \
         namespace: monitoring, additionalLabels: {release: prometheus}}}}",
    ),
    ("node-local", "{nodeLocal: {enabled: true, localIPs: [169.254.20.10, '10.96.0.10']}}"),
    ("everything", EVERYTHING),
];

/// Every value that takes a list or a map, and a Service outside of the cluster.
const EVERYTHING: &str = "
image: {repository: registry.example/dns/ringdns, tag: 1.2, pullSecrets: [{name: one}, two]}
resources: {limits: {cpu: 500m}}
preStopSleep: 5
podLabels: {zone: a}
dnsConfig: {nameservers: [192.0.2.4]}
deployment: {dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.5]}}
podAnnotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: 'false'}
serviceType: LoadBalancer
service:
  name: dns-outside
  annotations: {a: b}
  clusterIP: 10.96.0.53
  clusterIPs: [10.96.0.53, 'fd00:10:96::53']
  ipFamilyPolicy: RequireDualStack
  loadBalancerIP: 192.0.2.1
  loadBalancerClass: example/internal
  externalIPs: [192.0.2.2]
  externalTrafficPolicy: Local
  trafficDistribution: PreferClose
serviceAccount: {name: dns, annotations: {a: b}}
clusterRole: {nameOverride: dns-reader}
isClusterService: false
servers:
- zones: [{zone: .}]
  port: 1053
  servicePort: 53
  nodePort: 30053
  hostPort: 53
  plugins: [{name: whoami}, {name: prometheus, parameters: ':9153'}]
- zones: [{zone: example.org, scheme: tls://}]
  port: 853
  plugins: [{name: tls, parameters: /tls/tls.crt /tls/tls.key}, {name: file, parameters: db.x}]
extraConfig: {import: {parameters: /etc/coredns/more/*.conf}}
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
    [{matchExpressions: [{key: a, operator: Exists}]}]}}}
nodeSelector: {kubernetes.io/os: linux}
podDisruptionBudget: {minAvailable: 1}
zoneFiles: [{filename: db.x, domain: example.org, contents: '@ SOA a b 1 1 1 1 1'}]
env: [{name: UPSTREAM, value: 192.0.2.3}]
initContainers: [{name: wait, image: busybox}]
extraContainers: [{name: beside, image: busybox}]
extraVolumes: [{name: more, emptyDir: {}}]
extraVolumeMounts: [{name: more, mountPath: /etc/coredns/more}]
extraSecrets: [{name: tls, mountPath: /tls}, {name: other, mountPath: /other, defaultMode: 288}]
customLabels: {team: network}
customAnnotations: {owner: network}
";

/// Values in a file.
struct Values {
    folder: tempfile::TempDir,
}

impl Values {
    fn new(yaml: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("values.yaml"), yaml).expect("a file");
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("values.yaml")
    }

    fn render(&self, clients: &Clients) -> Result<Vec<Value>, String> {
        charted(clients, &["--values", &self.path().display().to_string()])
    }
}

#[test]
fn what_the_chart_renders_is_accepted() {
    let _alone = ALONE.lock();
    let Some(judge) = Judge::start("deploy_chart::what_the_chart_renders_is_accepted") else {
        return;
    };
    judge.cluster.objects().create(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "monitoring" }
    }));
    let mut renderings = Vec::new();
    for (what, values) in VARIANTS {
        let objects = Values::new(values).render(&judge.clients);
        let objects = objects.unwrap_or_else(|error| panic!("{what}: {error}"));
        let rendering = Rendering { what: what.to_owned(), objects };
        judge.accepts(&rendering, Outcome::Stored);
        judge.remove(&rendering);
        renderings.push(rendering);
    }
    let defaults = fs::read_to_string(deploy_folder().join("charts/ringdns/values.yaml"));
    let defaults: Value = serde_saphyr::from_str(&defaults.expect("default values")).expect("YAML");
    let flipped = flipped(&defaults);
    assert!(flipped.len() >= 20, "{} boolean values", flipped.len());
    for (path, values) in flipped {
        match Values::new(&values.to_string()).render(&judge.clients) {
            Ok(objects) => {
                let rendering = Rendering { what: path, objects };
                judge.accepts(&rendering, Outcome::Tried);
                renderings.push(rendering);
            }
            Err(error) => {
                let reason = match path.as_str() {
                    "rbac.pspEnable" => "have no PodSecurityPolicies",
                    "rbac.multiclusterEnable" => "does not read ServiceImports",
                    _ => panic!("{path}: {error}"),
                };
                assert!(error.contains(reason), "{path}: {error}");
            }
        }
    }
    judge.conform(&renderings).unwrap_or_else(|error| panic!("kubeconform: {error}"));
}

/// An older API server would refuse the pods.
#[test]
fn pre_stop_sleep_needs_kubernetes_1_30() {
    let test = "deploy_chart::pre_stop_sleep_needs_kubernetes_1_30";
    let Some(clients) = Clients::find(test) else { return };
    let render = |version: &str, secs: &str| {
        let sleep = format!("preStopSleep={secs}");
        charted(&clients, &["--kube-version", version, "--set", &sleep])
    };
    let error = render("1.29.9", "5").expect_err("refused");
    assert!(error.contains("preStopSleep: it needs Kubernetes 1.30"), "{error}");
    assert!(render("1.29.9", "0").is_ok());
    let objects = render("1.30.0", "5").expect("objects");
    let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 5);
}

/// The values with one boolean changed, for each boolean, with its path.
fn flipped(values: &Value) -> Vec<(String, Value)> {
    let with = |key: &str, value: &Value, set: &dyn Fn(&mut Value, Value)| {
        let join =
            |path: String| if path.is_empty() { key.to_owned() } else { format!("{key}.{path}") };
        let mut variants = Vec::new();
        for (path, inner) in flipped(value) {
            let mut whole = values.clone();
            set(&mut whole, inner);
            variants.push((join(path), whole));
        }
        variants
    };
    match values {
        Value::Bool(value) => vec![(String::new(), Value::Bool(!value))],
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| with(key, value, &|whole, inner| whole[key.as_str()] = inner))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, value)| {
                with(&index.to_string(), value, &|whole, inner| whole[index] = inner)
            })
            .collect(),
        Value::Null | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// The chart renders this Corefile, and ringdns accepts it.
fn check_corefile(clients: &Clients, values: &str, expected: &str) {
    let objects = Values::new(values).render(clients);
    let objects = objects.unwrap_or_else(|error| panic!("{values}: {error}"));
    let corefile = text(only(&objects, "ConfigMap"), "/data/Corefile");
    assert_eq!(corefile, expected, "{values}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("Corefile");
    fs::write(&path, corefile).expect("a file");
    let checked = output(Command::new(tools::ringdns()).arg("check").arg(path));
    checked.unwrap_or_else(|error| panic!("ringdns check: {error}\n{corefile}"));
}

/// Each Corefile is what CoreDNS's chart renders from the same values, apart from white space.
#[test]
fn values_of_core_dns_chart_give_its_corefile() {
    let test = "deploy_chart::values_of_core_dns_chart_give_its_corefile";
    let Some(clients) = Clients::find(test) else { return };
    let check = |values: &str, expected: &str| check_corefile(&clients, values, expected);
    check(
        "{}",
        ".:53 {\n    errors\n    health {\n        lameduck 10s\n    }\n    ready\n    kubernetes \
         cluster.local in-addr.arpa ip6.arpa {\n        pods insecure\n        fallthrough \
         in-addr.arpa ip6.arpa\n        ttl 30\n    }\n    prometheus 0.0.0.0:9153\n    forward . \
         /etc/resolv.conf\n    cache 30\n    loop\n    reload\n    loadbalance\n}\n",
    );
    // A port belongs to the last zone, and without zones it is the root.
    check(
        "
servers:
- zones: [{zone: example.org, use_tcp: true}, {zone: example.net., scheme: dns://}]
  port: 1053
  plugins:
  - {name: forward, parameters: . 192.0.2.1, configBlock: \"max_concurrent 1000\\n\"}
  - {name: cache, parameters: 1000000}
- port: 5353
  plugins: [{name: whoami}]
- zones: [{}]
  port: '5354'
  plugins: [{name: whoami}]
",
        "example.org dns://example.net.:1053 {\n    forward . 192.0.2.1 {\n        max_concurrent \
         1000\n    }\n    cache 1000000\n}\n.:5353 {\n    whoami\n}\n.:5354 {\n    whoami\n}\n",
    );
    check(
        "
extraConfig: {import: {parameters: /nowhere/*.conf}}
servers:
- zones: [{zone: example.org}]
  port: 53
  plugins:
  - name: hosts
    configBlock: |-
      192.0.2.1 a.example.org
      # the rest
      fallthrough
  - name: log
",
        "import /nowhere/*.conf\nexample.org:53 {\n    hosts {\n        192.0.2.1 \
         a.example.org\n        # the rest\n        fallthrough\n    }\n    log\n}\n",
    );
}

#[test]
fn ports_follow_the_servers() {
    let Some(clients) = Clients::find("deploy_chart::ports_follow_the_servers") else { return };
    let check = |servers: &str, service: Value, container: Value| {
        let objects = Values::new(&format!("servers: {servers}")).render(&clients).expect(servers);
        let ports = |kind: &str, pointer: &str| {
            let ports = only(&objects, kind).pointer(pointer).expect("ports").clone();
            serde_json::to_string(&ports).expect("JSON")
        };
        assert_eq!(ports("Service", "/spec/ports"), service.to_string(), "{servers}");
        let of_pods = ports("Deployment", "/spec/template/spec/containers/0/ports");
        assert_eq!(of_pods, container.to_string(), "{servers}");
    };
    let service = |protocol: &str, port: u16| {
        let name = format!("{}-{port}", protocol.to_lowercase());
        json!({ "name": name, "port": port, "protocol": protocol, "targetPort": port })
    };
    let container = |protocol: &str, port: u16| {
        let name = format!("{}-{port}", protocol.to_lowercase());
        json!({ "containerPort": port, "name": name, "protocol": protocol })
    };
    let both = |port| (service("UDP", port), service("TCP", port));
    let (udp, tcp) = both(53);
    check(
        "[{port: 53, zones: [{zone: .}], plugins: [{name: prometheus, parameters: '0.0.0.0:9'}]}]",
        json!([udp, tcp]),
        json!([container("UDP", 53), container("TCP", 53), container("TCP", 9)]),
    );
    check("[{port: 53, zones: [{use_tcp: false}]}]", json!([udp]), json!([container("UDP", 53)]));
    check(
        "[{port: 853, zones: [{scheme: 'tls://'}]}, {port: 53}]",
        json!([udp, tcp, service("TCP", 853)]),
        json!([container("UDP", 53), container("TCP", 53), container("TCP", 853)]),
    );
    check(
        "[{port: 1053, servicePort: 53, nodePort: 30053, hostPort: 54, zones: [{use_tcp: false}]}]",
        json!([{ "name": "udp-1053", "nodePort": 30053, "port": 53, "protocol": "UDP",
                 "targetPort": 1053 }]),
        json!([{ "containerPort": 1053, "hostPort": 54, "name": "udp-1053", "protocol": "UDP" }]),
    );
    // CoreDNS's chart keeps the first as well.
    let first = "{port: 1053, servicePort: 53, zones: [{zone: a., use_tcp: false}]}";
    let second = "{port: 1053, servicePort: 54, zones: [{zone: b., use_tcp: false}]}";
    check(
        &format!("[{first}, {second}]"),
        json!([{ "name": "udp-1053", "port": 53, "protocol": "UDP", "targetPort": 1053 }]),
        json!([container("UDP", 1053)]),
    );
}

#[test]
fn wrong_values_are_refused_with_their_place() {
    let test = "deploy_chart::wrong_values_are_refused_with_their_place";
    let Some(clients) = Clients::find(test) else { return };
    let check = |values: &str, message: &str| {
        let error = Values::new(values).render(&clients).expect_err(values);
        assert!(error.contains(message), "{values}: {error}");
    };
    check("{replicas: 2}", "'replicas' not allowed");
    check("{replicaCount: two}", "at '/replicaCount'");
    check("{servers: [{zone: .}]}", "'zone' not allowed");
    check("{servers: [{port: 53, plugins: [{parameters: 30}]}]}", "missing property 'name'");
    check("{serviceType: Headless}", "at '/serviceType'");
    check("{keda: {enabled: true}}", "'keda' not allowed");
    let two = "{hpa: {enabled: true}, autoscaler: {enabled: true}}";
    check(two, "two autoscalers would undo each other's changes: enable one");
    let node_local = |more: &str| format!("{{nodeLocal: {{enabled: true}}, {more}}}");
    check(&node_local("hpa: {enabled: true}"), "there is no Deployment that hpa or autoscaler");
    check(&node_local("daemonset: {enabled: true}"), "one release has one DaemonSet");
    check(&node_local("k8sAppLabelOverride: kube-dns"), "addresses of nodes, where nobody answers");
    check("{nodeLocal: {localIPs: []}}", "at '/nodeLocal/localIPs'");
}

#[test]
fn the_chart_grants_what_the_manifests_grant() {
    let test = "deploy_chart::the_chart_grants_what_the_manifests_grant";
    let Some(clients) = Clients::find(test) else { return };
    let rules = |objects: &[Value]| only(objects, "ClusterRole")["rules"].clone();
    let charted = rules(&charted(&clients, &[]).expect("objects"));
    assert_eq!(charted, rules(&kustomized(&clients, "base")));
}

/// The chart renders the objects of the folder `node-local`, under the names of a release.
#[test]
fn node_local_is_that_of_the_manifests() {
    let test = "deploy_chart::node_local_is_that_of_the_manifests";
    let Some(clients) = Clients::find(test) else { return };
    let values = Values::new("{nodeLocal: {enabled: true}}");
    let charted = values.render(&clients).expect("objects");
    let kustomized = kustomized(&clients, "node-local");
    let kinds = |objects: &[Value]| {
        let mut kinds: Vec<_> =
            objects.iter().map(|object| text(object, "/kind").to_owned()).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds(&charted), kinds(&kustomized));
    for pointer in [
        "/spec/updateStrategy",
        "/spec/template/metadata/annotations/prometheus.io~1port",
        "/spec/template/metadata/annotations/prometheus.io~1scrape",
        "/spec/template/spec/hostNetwork",
        "/spec/template/spec/dnsPolicy",
        "/spec/template/spec/priorityClassName",
        "/spec/template/spec/nodeSelector",
        "/spec/template/spec/tolerations",
        "/spec/template/spec/securityContext",
        "/spec/template/spec/affinity",
        "/spec/template/spec/containers/0/name",
        "/spec/template/spec/containers/0/args",
        "/spec/template/spec/containers/0/image",
        "/spec/template/spec/containers/0/ports",
        "/spec/template/spec/containers/0/resources",
        "/spec/template/spec/containers/0/securityContext",
        "/spec/template/spec/containers/0/volumeMounts",
        "/spec/template/spec/containers/0/livenessProbe/httpGet/host",
        "/spec/template/spec/containers/0/livenessProbe/httpGet/port",
        "/spec/template/spec/containers/0/readinessProbe/httpGet/host",
        "/spec/template/spec/containers/0/readinessProbe/httpGet/port",
    ] {
        let [ours, theirs] =
            [&charted, &kustomized].map(|objects| only(objects, "DaemonSet").pointer(pointer));
        assert_eq!(ours, theirs, "{pointer}");
    }
    let corefile = |objects: &[Value]| {
        let corefile = text(only(objects, "ConfigMap"), "/data/Corefile");
        // The rest is the same as without node-local.
        let lines = corefile.lines().map(|line| line.trim().trim_end_matches(" {"));
        let of_node = ["bind", "health", "ready", "prometheus"];
        let is_of_node = |line: &&str| of_node.contains(&line.split(' ').next().unwrap_or(""));
        lines.filter(is_of_node).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(corefile(&charted), corefile(&kustomized));
    // Its metrics are where Prometheus is told to look.
    let values = "{nodeLocal: {enabled: true}, prometheus: {service: {enabled: true}}}";
    let service = Values::new(values).render(&clients).expect("objects");
    let service = only(&service, "Service");
    assert_eq!(service.pointer("/spec/ports/0/targetPort"), Some(&json!(9253)));
    assert_eq!(text(service, "/metadata/annotations/prometheus.io~1port"), "9253");
}

/// What `servers` says of its own addresses stays.
#[test]
fn node_local_keeps_addresses_that_are_given() {
    let test = "deploy_chart::node_local_keeps_addresses_that_are_given";
    let Some(clients) = Clients::find(test) else { return };
    check_corefile(
        &clients,
        "
nodeLocal: {enabled: true, localIPs: ['fd00::a'], metricsPort: 9300}
servers:
- port: 53
  plugins: [{name: whoami}, {name: health}, {name: ready}, {name: prometheus}]
- zones: [{zone: example.org}]
  port: 53
  plugins:
  - {name: bind, parameters: 'fd00::b'}
  - {name: health, parameters: ':8081'}
  - {name: prometheus, parameters: ':9400'}
",
        ".:53 {\n    bind fd00::a\n    whoami\n    health [fd00::a]:8080\n    ready \
         [fd00::a]:8181\n    prometheus :9300\n}\nexample.org:53 {\n    bind fd00::b\n    health \
         :8081\n    prometheus :9400\n}\n",
    );
}

/// A further container may run as root, and every container may listen on port 53.
#[test]
fn only_the_server_must_not_be_root() {
    let test = "deploy_chart::only_the_server_must_not_be_root";
    let Some(clients) = Clients::find(test) else { return };
    let values = Values::new("{extraContainers: [{name: beside, image: busybox}]}");
    let objects = values.render(&clients).expect("objects");
    let pod = only(&objects, "Deployment").pointer("/spec/template/spec").expect("a pod");
    let fields = pod["securityContext"].as_object().expect("the pod's securityContext");
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["sysctls"]);
    let of_server = pod.pointer("/containers/0/securityContext/runAsNonRoot");
    assert_eq!(of_server, Some(&json!(true)));
    assert_eq!(pod.pointer("/containers/1/securityContext"), None);
}

#[test]
fn a_release_of_core_dns_chart_keeps_its_names() {
    let test = "deploy_chart::a_release_of_core_dns_chart_keeps_its_names";
    let Some(clients) = Clients::find(test) else { return };
    let values = Values::new("{k8sAppLabelOverride: kube-dns, customLabels: {team: network}}");
    let objects = values.render(&clients).expect("objects");
    let deployment = only(&objects, "Deployment");
    assert_eq!(text(deployment, "/metadata/name"), "coredns");
    // A Deployment's selector cannot be changed.
    let expected = json!({
        "app.kubernetes.io/instance": "coredns",
        "app.kubernetes.io/name": "coredns",
        "k8s-app": "kube-dns",
    });
    assert_eq!(deployment.pointer("/spec/selector/matchLabels"), Some(&expected));
}

/// `helm upgrade` and `helm rollback` at the API server, with the commands of the guide.
#[test]
fn a_release_is_upgraded_and_rolled_back() {
    let _alone = ALONE.lock();
    let Some(judge) = Judge::start("deploy_chart::a_release_is_upgraded_and_rolled_back") else {
        return;
    };
    let written = Values::new("{image: {repository: coredns/coredns, tag: 1.13.1}}");
    let (chart, values) = (deploy_folder().join("charts/ringdns"), written.path());
    let helm = |arguments: &[&str]| {
        let mut helm = Command::new(&judge.clients.helm);
        helm.args(arguments).args(["--namespace", "kube-system"]);
        let done = output(helm.env("KUBECONFIG", judge.cluster.kubeconfig()));
        done.unwrap_or_else(|error| panic!("helm {arguments:?}: {error}"));
    };
    let (chart, values) = (chart.display().to_string(), values.display().to_string());
    let objects = charted(&judge.clients, &[]).expect("objects");
    let image = || {
        let stored = judge.cluster.objects().stored(only(&objects, "Deployment"));
        let pointer = "/spec/template/spec/containers/0/image";
        text(&stored.expect("the Deployment"), pointer).to_owned()
    };
    helm(&["install", "coredns", &chart, "--values", &values]);
    assert_eq!(image(), "coredns/coredns:1.13.1");
    let ours = ["--set", "image.repository=registry.example/ringdns", "--set", "image.tag=0.1.0"];
    helm(&[&["upgrade", "coredns", &chart, "--values", &values], &ours[..]].concat());
    assert_eq!(image(), "registry.example/ringdns:0.1.0");
    helm(&["rollback", "coredns"]);
    assert_eq!(image(), "coredns/coredns:1.13.1");
}

//! deploy.sh and rollback.sh with a real kubectl and a real API server: what they print for which
//! flags and which cluster, and that it can be applied.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use e2e::admission::Outcome;
use e2e::judge::{Judge, Rendering};
use e2e::objects::text;
use e2e::rendering::{deploy_folder, documents, kustomized, only, output};
use e2e::tools;
use serde_json::{Value, json};

/// One cluster at a time: two would only slow each other down.
static ALONE: Mutex<()> = Mutex::new(());

/// The address in `deploy/kubernetes/base`.
const ADDRESS: &str = "10.96.0.10";

const STOCK_LINE: &str = "kubernetes cluster.local in-addr.arpa ip6.arpa {";

/// A cluster, and the scripts that are run in it.
struct Scripts {
    judge: Judge,
    base: Vec<Value>,
}

/// What a script has done.
struct Run {
    code: i32,
    printed: String,
    said: String,
}

/// What a manifest has instead of the defaults of `deploy/kubernetes/base`.
struct Differences<'a> {
    address: &'a str,
    kubernetes: &'a str,
    upstreams: &'a str,
    /// Server blocks behind the first.
    stubs: &'a str,
}

const STOCK: Differences<'_> = Differences {
    address: ADDRESS,
    kubernetes: STOCK_LINE,
    upstreams: "/etc/resolv.conf",
    stubs: "",
};

impl Scripts {
    fn start(test: &str) -> Option<Self> {
        let judge = Judge::start(test)?;
        let base = kustomized(&judge.clients, "base");
        Some(Self { judge, base })
    }

    fn command(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg(deploy_folder().join(script)).args(arguments);
        command.env("KUBECTL", &self.judge.clients.kubectl);
        command.env("KUBECONFIG", self.judge.cluster.kubeconfig());
        command
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Run {
        run(&mut self.command(script, arguments))
    }

    /// deploy.sh prints this manifest and says something with these words.
    fn check(&self, arguments: &[&str], expected: &Differences<'_>, words: &[&str]) {
        let run = self.run("deploy.sh", arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.said);
        assert!(words.iter().all(|word| run.said.contains(word)), "{arguments:?}: {}", run.said);
        assert_eq!(run.said.is_empty(), words.is_empty(), "{arguments:?}: {}", run.said);
        self.is(&run.printed, expected);
    }

    fn is(&self, printed: &str, expected: &Differences<'_>) {
        let objects = documents(printed);
        let corefile = text(only(&objects, "ConfigMap"), "/data/Corefile");
        check_with_ringdns(corefile);
        assert_eq!(objects, self.manifest(expected), "{corefile}");
    }

    fn manifest(&self, expected: &Differences<'_>) -> Vec<Value> {
        let mut objects = self.base.clone();
        for object in &mut objects {
            match text(object, "/kind") {
                "Service" => object["spec"]["clusterIP"] = json!(expected.address),
                "ConfigMap" => {
                    let corefile = text(object, "/data/Corefile").to_owned();
                    let corefile = corefile
                        .replace(STOCK_LINE, expected.kubernetes)
                        .replace("/etc/resolv.conf", expected.upstreams);
                    object["data"]["Corefile"] = json!(corefile + expected.stubs);
                }
                _ => {}
            }
        }
        objects
    }

    /// `deploy.sh | kubectl apply -f -`.
    fn apply(&self) {
        let printed = self.run("deploy.sh", &["-i", ADDRESS]).printed;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("manifest.yaml");
        fs::write(&path, printed).expect("a file");
        self.kubectl(&["apply", "--validate=strict", "-f", &path.display().to_string()]);
    }

    fn kubectl(&self, arguments: &[&str]) {
        let mut kubectl = Command::new(&self.judge.clients.kubectl);
        kubectl.args(arguments).env("KUBECONFIG", self.judge.cluster.kubeconfig());
        output(&mut kubectl).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"));
    }

    fn store(&self, object: Value) -> Stored<'_> {
        let rendering = Rendering { what: "a test's object".to_owned(), objects: vec![object] };
        self.judge.accepts(&rendering, Outcome::Stored);
        Stored { judge: &self.judge, rendering }
    }

    fn service(&self, address: &str) -> Stored<'_> {
        let mut service = only(&self.base, "Service").clone();
        service["spec"]["clusterIP"] = json!(address);
        self.store(service)
    }
}

/// Objects that are deleted with this value.
struct Stored<'a> {
    judge: &'a Judge,
    rendering: Rendering,
}

impl Drop for Stored<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.judge.remove(&self.rendering);
        }
    }
}

fn run(command: &mut Command) -> Run {
    let output = command.stdin(Stdio::null()).output().expect("sh");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("an exit code");
    Run { code, printed: text(&output.stdout), said: text(&output.stderr) }
}

fn check_with_ringdns(corefile: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("Corefile");
    fs::write(&path, corefile).expect("a file");
    let checked = output(Command::new(tools::ringdns()).arg("check").arg(path));
    checked.unwrap_or_else(|error| panic!("ringdns check: {error}\n{corefile}"));
}

fn config_map(name: &str, data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": "kube-system" },
        "data": data,
    })
}

#[test]
fn flags_give_the_manifest() {
    let _alone = ALONE.lock();
    let Some(scripts) = Scripts::start("deploy_sh::flags_give_the_manifest") else { return };
    // No cluster is asked if the flags say everything.
    let mut alone = scripts.command("deploy.sh", &["-i", ADDRESS, "-s"]);
    let alone = run(alone.env("KUBECTL", "/nowhere/kubectl"));
    assert_eq!((alone.code, alone.said.as_str()), (0, ""));
    scripts.is(&alone.printed, &STOCK);
    let other = Differences { address: "10.3.0.10", ..STOCK };
    scripts.check(&["-s", "-i", "10.3.0.10"], &other, &[]);
    scripts.check(&["-i", "10.3.0.10"], &other, &[]);
    scripts.check(&["-k", "x", "-i", "10.3.0.10"], &other, &["-k does nothing"]);
    let line = "kubernetes example.local 10.3.0.0/24 fd00::/112 {";
    let expected = Differences { kubernetes: line, ..other };
    let flags = ["-i", "10.3.0.10", "-d", "example.local", "-r", "10.3.0.0/24", "-r", "fd00::/112"];
    scripts.check(&flags, &expected, &[]);

    let _service = scripts.service("10.96.3.4");
    let found = Differences { address: "10.96.3.4", ..STOCK };
    scripts.check(&[], &found, &[]);
    let line = "kubernetes cluster.local 10.3.0.0/24 {";
    let historic = Differences { kubernetes: line, ..found };
    scripts.check(&["10.3.0.0/24", "cluster.local"], &historic, &[]);
    scripts.check(&["10.3.0.0/24"], &historic, &[]);

    let folder = tempfile::tempdir().expect("a folder");
    let template = folder.path().join("template");
    let words =
        "a: 'CLUSTER_DNS_IP CLUSTER_DOMAIN REVERSE_CIDRS UPSTREAMNAMESERVER&STUBDOMAINS.'\n";
    fs::write(&template, words).expect("a file");
    let run = scripts.run("deploy.sh", &["-t", &template.display().to_string()]);
    let expected = "a: '10.96.3.4 cluster.local in-addr.arpa ip6.arpa /etc/resolv.conf&.'\n";
    assert_eq!((run.code, run.printed.as_str(), run.said.as_str()), (0, expected, ""));
    let mut with_image = scripts.command("deploy.sh", &["-s"]);
    let run = run_with_image(&mut with_image, "registry.example/dns/ringdns:1");
    assert_eq!(run, "registry.example/dns/ringdns:1");
}

fn run_with_image(command: &mut Command, image: &str) -> String {
    let run = run(command.env("IMAGE", image));
    let objects = documents(&run.printed);
    let pointer = "/spec/template/spec/containers/0/image";
    text(only(&objects, "Deployment"), pointer).to_owned()
}

#[test]
fn mistakes_print_no_manifest() {
    let _alone = ALONE.lock();
    let Some(scripts) = Scripts::start("deploy_sh::mistakes_print_no_manifest") else { return };
    let check = |arguments: &[&str], code: i32, words: &str| {
        let run = scripts.run("deploy.sh", arguments);
        assert_eq!((run.code, run.printed.as_str()), (code, ""), "{arguments:?}: {}", run.said);
        assert!(run.said.contains(words), "{arguments:?}: {}", run.said);
    };
    check(&["-x"], 1, "Usage: deploy.sh");
    check(&["-i", "10.3.0.10", "a.local", "b.local"], 1, "two domains, a.local and b.local");
    check(&["-i", "10.3.0.10", "-d", "a;b"], 1, "not a name, an address or a CIDR: a;b");
    check(&["-i", "10.3.0.10", "-t", "/nowhere"], 1, "cannot read the template /nowhere");
    check(&[], 2, "there is no Service kube-system/kube-dns; give the address with -i");
    let _service = scripts.service("10.96.3.4");
    let wrong = |key: &str, value: &str, words: &str| {
        let mut data = json!({});
        data[key] = json!(value);
        let _stored = scripts.store(config_map("kube-dns", data));
        check(&[], 2, words);
    };
    let of = "stubDomains of the ConfigMap kube-system/kube-dns: ";
    wrong("stubDomains", "{\"a\": [\"1.2.3.4\"", &format!("{of}not JSON at: "));
    wrong("stubDomains", "{\"a\": \"1.2.3.4\"}", &format!("{of}expected a list of servers"));
    wrong("stubDomains", "{\"a\": [\"1.2.3.4 {\"]}", "not a name or an address: 1.2.3.4 {");
    wrong("upstreamNameservers", "8.8.8.8", "not JSON at: 8.8.8.8");
    wrong("upstreamNameservers", "[\"8.8.8.8\"] x", "more text at the end: x");
    let help = scripts.run("deploy.sh", &["-h"]);
    assert!(help.code == 0 && help.said.is_empty() && help.printed.starts_with("Usage"));
    let mut gone = scripts.command("deploy.sh", &[]);
    let run = run(gone.env("KUBECTL", "/nowhere/kubectl"));
    assert_eq!((run.code, run.printed.as_str()), (2, ""), "{}", run.said);
    assert!(run.said.contains("cannot read the Service kube-dns"), "{}", run.said);
}

/// The objects of kube-dns's ConfigMap in both spellings: every server is kept.
#[test]
fn the_config_map_of_kube_dns_is_converted() {
    let _alone = ALONE.lock();
    let test = "deploy_sh::the_config_map_of_kube_dns_is_converted";
    let Some(scripts) = Scripts::start(test) else { return };
    let _service = scripts.service(ADDRESS);
    let stubs = "abc.com:53 {\n    errors\n    cache 30\n    loop\n    forward . 1.2.3.4:5300 \
                 4.4.4.4 {\n        max_concurrent 1000\n    }\n}\nmy.cluster.local:53 {\n    \
                 errors\n    cache 30\n    loop\n    forward . 2.3.4.5:5300 fd00::35 {\n        \
                 max_concurrent 1000\n    }\n}\n";
    let expected = Differences { upstreams: "8.8.8.8 8.8.4.4", stubs, ..STOCK };
    let spaced = json!({
        "stubDomains": "{\"abc.com\": [\"1.2.3.4:5300\", \"4.4.4.4\"],\n \"my.cluster.local\" : [ \
            \"2.3.4.5:5300\",\t\"fd00::35\" ] }\n",
        "upstreamNameservers": "[ \"8.8.8.8\", \"8.8.4.4\" ]\n",
    });
    let compact = json!({
        "stubDomains": "{\"abc.com\":[\"1.2.3.4:5300\",\"4.4.4.4\"],\"my.cluster.local\":\
            [\"2.3.4.5:5300\",\"fd00::35\"]}",
        "upstreamNameservers": "[\"8.8.8.8\",\"8.8.4.4\"]",
    });
    for data in [spaced, compact] {
        let _stored = scripts.store(config_map("kube-dns", data));
        scripts.check(&[], &expected, &[]);
        scripts.check(&["-s"], &STOCK, &[]);
    }
    let empty = json!({ "stubDomains": "{}", "upstreamNameservers": "[]" });
    let stored = scripts.store(config_map("kube-dns", empty));
    scripts.check(&[], &STOCK, &[]);
    drop(stored);
    let federations = json!({ "federations": "{\"foo\": \"foo.example.com\"}" });
    let _stored = scripts.store(config_map("kube-dns", federations));
    scripts.check(&[], &STOCK, &["federations of kube-dns are left out"]);
}

#[test]
fn an_existing_corefile_stays() {
    let _alone = ALONE.lock();
    let Some(scripts) = Scripts::start("deploy_sh::an_existing_corefile_stays") else { return };
    let _service = scripts.service(ADDRESS);
    let _stored = scripts.store(config_map("coredns", json!({ "Corefile": ". { whoami }" })));
    let run = scripts.run("deploy.sh", &[]);
    assert!(run.code == 0 && run.said.contains("stays as it is and is used"), "{}", run.said);
    let expected: Vec<Value> = scripts
        .base
        .iter()
        .filter(|object| text(object, "/kind") != "ConfigMap")
        .cloned()
        .collect();
    assert_eq!(documents(&run.printed), expected);
}

#[test]
fn the_manifest_is_applied() {
    let _alone = ALONE.lock();
    let Some(scripts) = Scripts::start("deploy_sh::the_manifest_is_applied") else { return };
    scripts.apply();
    for object in &scripts.base {
        let stored = scripts.judge.cluster.objects().stored(object);
        assert!(stored.is_some(), "{} {}", text(object, "/kind"), text(object, "/metadata/name"));
    }
}

/// The Deployment `coredns` with an image, and a ReplicaSet of an earlier or the same revision.
fn revision(deployment: &Value, owner: &str, number: u32, image: &str) -> Value {
    let hash = format!("h{number}");
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
    template["spec"]["containers"][0]["image"] = json!(image);
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("coredns-{hash}"), "namespace": "kube-system",
            "labels": template["metadata"]["labels"],
            "annotations": { "deployment.kubernetes.io/revision": number.to_string() },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": "coredns",
                "uid": owner, "controller": true,
            }],
        },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": template["metadata"]["labels"] },
            "template": template,
        },
    })
}

/// What kubeadm installs, as far as the next test needs it.
fn of_kubeadm() -> Value {
    let labels = json!({ "k8s-app": "kube-dns" });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "coredns", "namespace": "kube-system", "labels": labels },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{
                    "name": "coredns", "image": "coredns/coredns:1.12.1",
                    "args": ["-conf", "/etc/coredns/Corefile"],
                    "ports": [
                        { "name": "dns", "containerPort": 53, "protocol": "UDP" },
                        { "name": "dns-tcp", "containerPort": 53, "protocol": "TCP" },
                    ],
                }] },
            },
        },
    })
}

#[test]
fn the_deployment_of_kubeadm_is_replaced_in_place() {
    let _alone = ALONE.lock();
    let test = "deploy_sh::the_deployment_of_kubeadm_is_replaced_in_place";
    let Some(scripts) = Scripts::start(test) else { return };
    let objects = scripts.judge.cluster.objects();
    objects.apply_strictly(&of_kubeadm(), Outcome::Stored).expect("kubeadm's Deployment");
    scripts.apply();
    let stored = objects.stored(only(&scripts.base, "Deployment")).expect("the Deployment");
    assert_eq!(stored.pointer("/spec/replicas"), Some(&json!(3)), "they stay");
    let containers = stored.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    assert_eq!(containers.map(Vec::len), Some(1));
    let image = text(&stored, "/spec/template/spec/containers/0/image");
    assert!(image.starts_with("ringdns:"), "{image}");
}

#[test]
fn rollback_brings_the_last_other_image_back() {
    let _alone = ALONE.lock();
    let test = "deploy_sh::rollback_brings_the_last_other_image_back";
    let Some(scripts) = Scripts::start(test) else { return };
    let check = |arguments: &[&str], code: i32, words: &str| {
        let run = scripts.run("rollback.sh", arguments);
        let all = format!("{}{}", run.printed, run.said);
        assert!(run.code == code && all.contains(words), "{arguments:?}: {} {all}", run.code);
    };
    check(&["-i", "10.96.0.10"], 1, "there is no manifest of kube-dns here");
    check(&["-w", "1m"], 1, "not a number of seconds");
    check(&["-c", "registry.example/dns"], 1, "not a name without registry and tag");
    check(&[], 2, "there is no Deployment kube-system/coredns");
    let deployment = only(&scripts.base, "Deployment").clone();
    let _deployment = scripts.store(deployment.clone());
    check(&[], 2, "no revision with another image than ringdns:");
    let objects = scripts.judge.cluster.objects();
    let stored = objects.stored(&deployment).expect("the Deployment");
    let owner = text(&stored, "/metadata/uid").to_owned();
    let now = text(&deployment, "/spec/template/spec/containers/0/image").to_owned();
    let images =
        ["a:5000/coredns:1.10", "coredns:1.11", "a:5000/ringdns:0", "ringdns@sha256:1", &now];
    let _revisions: Vec<Stored<'_>> = images
        .iter()
        .zip(8..)
        .map(|(image, number)| scripts.store(revision(&deployment, &owner, number, image)))
        .collect();
    let undo = "kubectl --namespace kube-system rollout undo deployment coredns --to-revision=9\n";
    check(&["-n"], 0, undo);
    let image = |object: &Value| text(object, "/spec/template/spec/containers/0/image").to_owned();
    assert_eq!(image(&objects.stored(&deployment).expect("it")), now, "-n changes nothing");
    // No kubelet runs here either, so it stays Pending.
    let labels = "--labels=k8s-app=kube-dns";
    scripts.kubectl(&["run", "pending", "--image=coredns:1.11", labels, "-n", "kube-system"]);
    // No controller runs here, so the pods are not replaced.
    check(&["-w", "1"], 2, undo);
    assert_eq!(image(&objects.stored(&deployment).expect("it")), "coredns:1.11");
    // A second run does not go forward to ringdns.
    check(&["-n"], 0, "runs coredns:1.11, already another server");
    assert!(!scripts.run("rollback.sh", &["-n"]).printed.contains("undo"));
    check(&["-w", "1"], 2, "these pods are Pending: pending: if kubectl describe names");
    scripts.kubectl(&["delete", "pod", "pending", "-n", "kube-system"]);
    check(&["-w", "1"], 2, "is not ready after 1 s: look at the log of its pods");
    assert_eq!(image(&objects.stored(&deployment).expect("it")), "coredns:1.11");
    let on_nodes = kustomized(&scripts.judge.clients, "shared-node");
    let _on_nodes = scripts.store(only(&on_nodes, "DaemonSet").clone());
    check(&[], 2, "ringdns runs in the DaemonSet kube-system/coredns-node: \"On every node\"");
    // ringdns under another name.
    check(&["-n", "-c", "coredns"], 0, "--to-revision=12\n");
}

#[test]
fn rollback_of_a_shared_service_scales_core_dns_up() {
    let _alone = ALONE.lock();
    let test = "deploy_sh::rollback_of_a_shared_service_scales_core_dns_up";
    let Some(scripts) = Scripts::start(test) else { return };
    let shared = kustomized(&scripts.judge.clients, "shared");
    let _shared = scripts.store(only(&shared, "Deployment").clone());
    let run = scripts.run("rollback.sh", &[]);
    let nothing = "there is no Deployment kube-system/coredns to go back to";
    assert!(run.code == 2 && run.said.contains(nothing), "{}", run.said);
    let mut deployment = only(&scripts.base, "Deployment").clone();
    deployment["spec"]["replicas"] = json!(0);
    let _deployment = scripts.store(deployment.clone());
    let run = scripts.run("rollback.sh", &["-n"]);
    let expected = "kubectl --namespace kube-system scale deployment coredns --replicas=1\n\
                    kubectl --namespace kube-system rollout status deployment coredns \
                    --timeout=60s\n\
                    kubectl --namespace kube-system delete deployment coredns-ringdns\n";
    assert_eq!((run.code, run.printed.as_str(), run.said.as_str()), (0, expected, ""));
    let run = scripts.run("rollback.sh", &["-w", "1"]);
    assert_eq!(run.code, 2, "no controller runs here: {}", run.said);
    let stored = scripts.judge.cluster.objects().stored(&deployment).expect("it");
    assert_eq!(stored.pointer("/spec/replicas"), Some(&json!(1)));
}

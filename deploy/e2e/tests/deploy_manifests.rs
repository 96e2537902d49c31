//! A real API server and kubeconform accept everything in `deploy/kubernetes`, and its parts fit
//! together.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Mutex;

use e2e::admission::Outcome;
use e2e::judge::{Judge, Rendering};
use e2e::objects::text;
use e2e::rendering::{deploy_folder, kustomized, only, output};
use e2e::tools::Clients;
use serde_json::{Value, json};

/// The folders with a kustomization.
const KUSTOMIZATIONS: [&str; 7] =
    ["base", "ha", "node", "node-local", "beside", "shared", "shared-node"];

/// One cluster at a time: two would only slow each other down.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn every_kustomization_is_accepted() {
    let _alone = ALONE.lock();
    let Some(judge) = Judge::start("deploy_manifests::every_kustomization_is_accepted") else {
        return;
    };
    let renderings = KUSTOMIZATIONS.map(|folder| Rendering {
        what: folder.to_owned(),
        objects: kustomized(&judge.clients, folder),
    });
    for rendering in &renderings {
        judge.accepts(rendering, Outcome::Stored);
        judge.remove(rendering);
    }
    judge.conform(&renderings).unwrap_or_else(|error| panic!("kubeconform: {error}"));
}

#[test]
fn wrong_objects_are_refused_by_both_judges() {
    let _alone = ALONE.lock();
    let test = "deploy_manifests::wrong_objects_are_refused_by_both_judges";
    let Some(judge) = Judge::start(test) else { return };
    let base = kustomized(&judge.clients, "base");
    let check = |kind: &str, pointer: &str, key: &str, value: Value| {
        let mut object = only(&base, kind).clone();
        object.pointer_mut(pointer).expect("a field")[key] = value;
        let refused = judge.cluster.objects().apply_strictly(&object, Outcome::Tried);
        assert!(refused.is_err(), "the API server accepts {key} in {pointer} of a {kind}");
        let what = key.to_owned();
        let refused = judge.conform(&[Rendering { what, objects: vec![object] }]);
        assert!(refused.is_err(), "kubeconform accepts {key} in {pointer} of a {kind}");
    };
    check("Deployment", "/spec", "replica", json!(2));
    check("Deployment", "/spec/template/spec/containers/0", "args", json!("-conf"));
    check("Deployment", "/spec/template/spec/containers/0/livenessProbe/httpGet", "prt", json!(1));
    check("Service", "/spec/ports/0", "port", json!("dns"));
    check("ClusterRole", "/rules/0", "verb", json!(["list"]));
}

/// The Deployment or DaemonSet.
fn workload(objects: &[Value]) -> &Value {
    let kinds = ["Deployment", "DaemonSet"];
    objects.iter().find(|object| kinds.contains(&text(object, "/kind"))).expect("a workload")
}

fn pod_labels(objects: &[Value]) -> &Value {
    workload(objects).pointer("/spec/template/metadata/labels").expect("labels")
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().expect("a selector");
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[test]
fn pods_are_behind_the_services_that_they_should_be_behind() {
    let test = "deploy_manifests::pods_are_behind_the_services_that_they_should_be_behind";
    let Some(clients) = Clients::find(test) else { return };
    // kubeadm's Service, and that of CoreDNS's deploy.sh.
    let kubeadm = json!({ "k8s-app": "kube-dns" });
    let deploy_sh = json!({ "k8s-app": "kube-dns", "app.kubernetes.io/name": "coredns" });
    for folder in KUSTOMIZATIONS {
        let objects = kustomized(&clients, folder);
        let labels = pod_labels(&objects);
        let is_replacement = !["beside", "node-local"].contains(&folder);
        assert_eq!(selects(&kubeadm, labels), is_replacement, "{folder}: {labels}");
        assert_eq!(selects(&deploy_sh, labels), is_replacement, "{folder}: {labels}");
        let mut services = objects.iter().filter(|object| text(object, "/kind") == "Service");
        match services.next() {
            None => assert!(
                folder.starts_with("shared") || folder == "node-local",
                "{folder} has no Service"
            ),
            Some(service) => {
                let selector = service.pointer("/spec/selector").expect("a selector");
                assert!(selects(selector, labels), "{folder}: {selector} and {labels}");
            }
        }
    }
}

#[test]
fn a_cluster_with_core_dns_keeps_its_objects() {
    let test = "deploy_manifests::a_cluster_with_core_dns_keeps_its_objects";
    let Some(clients) = Clients::find(test) else { return };
    let of_core_dns: Vec<String> = kustomized(&clients, "base").iter().map(identity).collect();
    for folder in ["beside", "shared", "shared-node", "node-local"] {
        for object in kustomized(&clients, folder) {
            let identity = identity(&object);
            assert!(!of_core_dns.contains(&identity), "{folder} changes {identity}");
            // kubeadm refuses to upgrade a cluster with two such Deployments.
            let is_deployment = text(&object, "/kind") == "Deployment";
            let label = object.pointer("/metadata/labels/k8s-app");
            assert!(!is_deployment || label != Some(&json!("kube-dns")), "{folder}");
        }
    }
}

fn identity(object: &Value) -> String {
    format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))
}

/// The kustomization that the guides begin with, for each folder that it may name.
#[test]
fn the_guides_kustomization_sets_the_image() {
    let test = "deploy_manifests::the_guides_kustomization_sets_the_image";
    let Some(clients) = Clients::find(test) else { return };
    let guide = fs::read_to_string(deploy_folder().join("README.md")).expect("the guides");
    let kustomization = guide.split("<<END\n").nth(1).and_then(|rest| rest.split("END").next());
    let kustomization = kustomization.expect("a kustomization");
    for folder in KUSTOMIZATIONS {
        let own = tempfile::tempdir().expect("a folder");
        symlink(deploy_folder(), own.path().join("deploy")).expect("a link");
        let dns = own.path().join("dns");
        fs::create_dir(&dns).expect("a folder");
        let named = kustomization.replace("kubernetes/shared]", &format!("kubernetes/{folder}]"));
        fs::write(dns.join("kustomization.yaml"), named).expect("a file");
        let objects = kustomized(&clients, &dns.display().to_string());
        let image = workload(&objects).pointer("/spec/template/spec/containers/0/image");
        assert_eq!(image, Some(&json!("registry.example/ringdns:0.1.0")), "{folder}");
    }
}

/// The backup that the guides begin with, and the way back that they name.
#[test]
fn the_guides_backup_can_be_restored() {
    let _alone = ALONE.lock();
    let test = "deploy_manifests::the_guides_backup_can_be_restored";
    let Some(judge) = Judge::start(test) else { return };
    let guide = fs::read_to_string(deploy_folder().join("README.md")).expect("the guides");
    let backup = guide.split("```").find(|block| block.contains("> coredns.yaml"));
    let backup = backup.expect("a command");
    let folder = tempfile::tempdir().expect("a folder");
    let kubectl = judge.clients.kubectl.parent().expect("a folder").display();
    let path = format!("{kubectl}:{}", std::env::var("PATH").unwrap_or_default());
    let shell = |script: &str| {
        let mut sh = Command::new("sh");
        sh.args(["-c", script]).current_dir(folder.path()).env("PATH", &path);
        let done = output(sh.env("KUBECONFIG", judge.cluster.kubeconfig()));
        done.unwrap_or_else(|error| panic!("{script}: {error}"));
    };
    let objects = kustomized(&judge.clients, "base");
    let rendering = Rendering { what: "base".to_owned(), objects };
    judge.accepts(&rendering, Outcome::Stored);
    let state = || {
        let cluster = judge.cluster.objects();
        rendering.objects.iter().map(|object| without_history(cluster.stored(object))).collect()
    };
    let before: Vec<Value> = state();
    shell(backup);
    shell("kubectl set image deployment/coredns coredns=other -n kube-system");
    shell("kubectl delete configmap coredns -n kube-system");
    shell("kubectl create configmap coredns -n kube-system --from-literal=Corefile=x");
    assert_ne!(state(), before);
    shell("kubectl replace -f coredns.yaml");
    assert_eq!(state(), before);
}

/// The guide's patch of NodeLocal DNSCache's DaemonSet changes what ringdns needs and no more.
#[test]
fn the_guides_patch_keeps_node_local_dns_cache_as_it_is() {
    let _alone = ALONE.lock();
    let test = "deploy_manifests::the_guides_patch_keeps_node_local_dns_cache_as_it_is";
    let Some(judge) = Judge::start(test) else { return };
    let labels = json!({ "k8s-app": "node-local-dns" });
    let container = json!({
        "name": "node-cache",
        "image": "node-cache",
        "args": ["-localip", "169.254.20.10,10.96.0.10", "-conf", "/etc/Corefile"],
        "securityContext": { "capabilities": { "add": ["NET_ADMIN"] } },
    });
    let daemon_set = json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": "node-local-dns", "namespace": "kube-system" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "hostNetwork": true, "containers": [container] },
            },
        },
    });
    let objects = vec![daemon_set.clone()];
    judge.accepts(&Rendering { what: "node-local-dns".to_owned(), objects }, Outcome::Stored);
    let spec = || {
        let stored = judge.cluster.objects().stored(&daemon_set).expect("the DaemonSet");
        stored.pointer("/spec/template/spec").expect("a pod").clone()
    };
    let mut expected = spec();
    expected["containers"][0]["image"] = json!("registry.example/ringdns:0.1.0");
    expected["containers"][0]["securityContext"]["runAsUser"] = json!(0);
    let guide = fs::read_to_string(deploy_folder().join("README.md")).expect("the guides");
    let mut commands = guide.split("```").flat_map(|block| block.split("&&"));
    let patch = commands.find(|command| command.contains("kubectl patch daemonset node-local-dns"));
    let patch = patch.expect("a command");
    let mut sh = Command::new("sh");
    let kubectl = judge.clients.kubectl.parent().expect("a folder").display();
    let path = format!("{kubectl}:{}", std::env::var("PATH").unwrap_or_default());
    sh.args(["-c", patch]).env("PATH", path).env("KUBECONFIG", judge.cluster.kubeconfig());
    output(&mut sh).unwrap_or_else(|error| panic!("{patch}: {error}"));
    assert_eq!(spec(), expected);
}

/// An object without what each change of it changes.
fn without_history(object: Option<Value>) -> Value {
    let mut object = object.expect("an object");
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    for key in ["creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"] {
        metadata.remove(key);
    }
    object
}

#[test]
fn the_image_is_of_this_version() {
    let test = "deploy_manifests::the_image_is_of_this_version";
    let Some(clients) = Clients::find(test) else { return };
    let base = kustomized(&clients, "base");
    let image = text(only(&base, "Deployment"), "/spec/template/spec/containers/0/image");
    assert_eq!(image, format!("ringdns:{}", env!("CARGO_PKG_VERSION")));
}

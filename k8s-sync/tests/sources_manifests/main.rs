//! Manifests: what is read, and where a mistake is reported. Files that change are in `changes`.

mod changes;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_sync::manifests::{ManifestError, Manifests};
use k8s_sync::object::{Change, Event, ObjectKey};
use k8s_sync::options::{Options, Source};
use k8s_sync::raw::Kind;
use k8s_sync::selector::{Operator, Requirement, Selector};
use k8s_sync::status::SourceStatus;
use tempfile::TempDir;
use tokio::sync::mpsc::{Receiver, channel};
use wire::pod::PodMode;

/// Longer than any reload takes, and far below the period of the poll, which would hide a broken
/// inotify watch.
const SOON: Duration = Duration::from_secs(3);

fn options() -> Options {
    Options {
        zones: Vec::new(),
        source: Source::Manifests(Vec::new()),
        namespaces: Vec::new(),
        namespace_labels: None,
        labels: None,
        pods: PodMode::Verified,
        indexes_pods: false,
        endpoint_pod_names: false,
        ttl_secs: 5,
        no_endpoints: false,
        ignore_empty_service: false,
        server_addresses: Vec::new(),
        startup_timeout: Duration::from_secs(5),
    }
}

/// `KEY=VALUE`
fn selector(key: &str, value: &str) -> Option<Selector> {
    let operator = Operator::In(vec![value.to_owned()]);
    let requirements = vec![Requirement { key: key.to_owned(), operator }];
    Some(Selector { text: format!("{key}={value}"), requirements })
}

fn load(
    paths: &[PathBuf],
    options: &Options,
) -> Result<(Manifests, Arc<SourceStatus>), ManifestError> {
    let status = Arc::new(SourceStatus::new(options));
    Ok((Manifests::load(paths, options, Arc::clone(&status))?, status))
}

/// Everything that is sent until the source is quiet: each list in braces, objects by kind and
/// name, sorted by name.
async fn next_lists(events: &mut Receiver<Event>, kinds: usize) -> String {
    let mut lists = Vec::new();
    let mut objects = Vec::new();
    while lists.len() < kinds {
        let event = tokio::time::timeout(SOON, events.recv()).await;
        let event = event.expect("the change is seen soon").expect("the source runs");
        let is_done = match event {
            Event::Namespace(change) => {
                add(change, "ns", &mut objects, |object| object.name.into())
            }
            Event::Service(change) => add(change, "svc", &mut objects, |object| name(&object.key)),
            Event::EndpointSlice(change) => {
                add(change, "slice", &mut objects, |object| name(&object.key))
            }
            Event::Pod(change) => add(change, "pod", &mut objects, |object| name(&object.key)),
        };
        if is_done {
            objects.sort();
            lists.push(format!("{{{}}}", objects.join(" ")));
            objects.clear();
        }
    }
    lists.join(" ")
}

fn name(key: &ObjectKey) -> String {
    format!("{}/{}", key.namespace, key.name)
}

fn add<T, K>(
    change: Change<T, K>,
    kind: &str,
    objects: &mut Vec<String>,
    name: impl Fn(T) -> String,
) -> bool {
    match change {
        Change::Init => assert!(objects.is_empty(), "a list within a list"),
        Change::InitApply(object) => objects.push(format!("{kind}:{}", name(object))),
        Change::InitDone => return true,
        Change::InitDropped | Change::Apply(_) | Change::Delete(_) | Change::Remembered(_) => {
            panic!("files are complete lists")
        }
    }
    false
}

#[tokio::main(flavor = "current_thread")]
async fn read_once(paths: &[PathBuf], options: &Options) -> Result<String, ManifestError> {
    let kinds =
        2 + usize::from(!options.no_endpoints) + usize::from(options.pods == PodMode::Verified);
    let (manifests, _) = load(paths, options)?;
    let (sender, mut events) = channel(4);
    let running = tokio::spawn(manifests.run(sender));
    let lists = next_lists(&mut events, kinds).await;
    drop(events);
    running.await.expect("the task ends with its receiver");
    Ok(lists)
}

/// Reads one file of this name and text.
#[track_caller]
fn check(file: &str, text: &str, expected: &str) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join(file);
    fs::write(&path, text).expect("a file");
    let lists = read_once(&[path], &options()).unwrap_or_else(|error| {
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    });
    assert_eq!(lists, expected, "{text}");
}

const NS: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n";
const SVC: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {namespace: a, name: web}\nspec: {clusterIP: None}\n";

#[test]
fn forms_of_manifests() {
    check("x.yaml", NS, "{ns:a} {} {} {}");
    check("x.yaml", &format!("# comment\n---\n{NS}---\n{SVC}---\n"), "{ns:a} {svc:a/web} {} {}");
    check(
        "x.yaml",
        &format!("{SVC}---\n{NS}---\napiVersion: apps/v1\nkind: Deployment\nspec: []\n"),
        "{ns:a} {svc:a/web} {} {}",
    );
    // A Service of another group is another kind.
    check("x.yaml", &SVC.replace("v1", "serving.knative.dev/v1"), "{} {} {} {}");
    // So is a document that is not a Kubernetes object at all.
    check(
        "x.yaml",
        &format!("replicas: 3\nimage: {{tag: x}}\n---\n{NS}---\na: 1\n"),
        "{ns:a} {} {} {}",
    );
    let json = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}"#;
    check("x.json", json, "{ns:a} {} {} {}");
    check("x.yaml", json, "{ns:a} {} {} {}");
    check(
        "x.json",
        &format!("{json}\n{}", json.replace(r#""a""#, r#""b""#)),
        "{ns:a ns:b} {} {} {}",
    );
    check("x.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: a}}", "{ns:a} {} {} {}");
    // Names that YAML 1.1 reads as something else.
    for name in ["y", "no", "on", "7", "1-2", "null-0"] {
        check(
            "x.yaml",
            &NS.replace("name: a", &format!("name: {name}")),
            &format!("{{ns:{name}}} {{}} {{}} {{}}"),
        );
    }
    let list = format!(
        r#"{{"kind":"List","apiVersion":"v1","items":[{json},{{"kind":"List","items":[{json}]}}]}}"#
    );
    check("x.json", &list, "{ns:a ns:a} {} {} {}");
    // kubectl get --raw: the items have no kind.
    let raw = r#"{
        "kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","metadata":{},"items":[{
            "metadata":{
                "namespace":"a","name":"web-1","labels":{"kubernetes.io/service-name":"web"}},
            "addressType":"IPv4","endpoints":[],"ports":null}]}"#;
    check("x.json", raw, "{ns:a} {} {slice:a/web-1} {}");
    // kubectl get … -o json | jq .items, and jq -c '.items[]'
    check("x.json", &format!("[{json},{json}]"), "{ns:a ns:a} {} {} {}");
    check("x.yaml", &format!("- {json}\n- {json}\n"), "{ns:a ns:a} {} {} {}");
    check("x.jsonl", &format!("{json}\n{json}\n"), "{ns:a ns:a} {} {} {}");
    check("x.ndjson", &format!("\u{feff}{json}\r\n{json}\r\n"), "{ns:a ns:a} {} {} {}");
    check("x.yaml", "# kubectl get ns\n---\n# nothing yet\n", "{} {} {} {}");
    // kubectl cluster-info dump: a kind without objects.
    check(
        "x.json",
        &format!(r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{}},"items":null}}{json}"#),
        "{ns:a} {} {} {}",
    );
    check(
        "x.yaml",
        "apiVersion: v1\nitems: []\nkind: List\nmetadata:\n  resourceVersion: \"\"\n",
        "{} {} {} {}",
    );
}

#[test]
fn errors_have_a_position() {
    let key = "while parsing a block mapping, did not find expected key";
    check("x.yaml", &format!("{NS} oops: [\n"), &format!("x.yaml:5:2: {key}"));
    check("x.yaml", &format!("{NS}---\nkind: [\n"), "x.yaml:6:7: unclosed bracket '['");
    check("x.json", "{\n  \"kind\": \"Namespace\",\n}", "x.json:3:1: trailing comma");
    check("x.json", "{\"kind\": \"Namespace\"", "x.json:1:20: EOF while parsing an object");
    check("x.yaml", "", "x.yaml: the file contains no YAML or JSON document");
    check("x.json", "  \n", "x.json: the file contains no YAML or JSON document");
    let cut = "object without a kind: is the file truncated?";
    check(
        "x.yaml",
        "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Namespace\n",
        &format!("x.yaml:1:1: {cut}"),
    );
    check(
        "x.json",
        "{\"kind\": \"PodList\", \"items\": []}\n==== START logs for container a of pod b/c \
         ====\nx\n",
        "x.json:2:1: the file is a dump with container logs between the objects: `kubectl \
         cluster-info dump --output-directory=FOLDER` writes them to separate files",
    );
    let no_object = "instead of an object: a manifest is what `kubectl get … -o yaml` prints";
    check("x.yaml", "just words\n", &format!("x.yaml:1:1: found \"just words\" {no_object}"));
    check("x.yaml", &format!("{NS}---\n7\n"), &format!("x.yaml:6:1: found 7 {no_object}"));
    check(
        "x.yaml",
        "NAME  TYPE\nweb  x\n",
        &format!("x.yaml:1:1: found \"NAME  TYPE web  x\" {no_object}"),
    );
}

#[test]
fn selectors_and_options_select() {
    let text = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {dns: 'yes'}}}
- {apiVersion: v1, kind: Namespace, metadata: {name: b}}
- {apiVersion: v1, kind: Service, metadata: {namespace: a, name: web, labels: {app: web}}, spec: \
  {clusterIP: None}}
- {apiVersion: v1, kind: Service, metadata: {namespace: a, name: api}, spec: {clusterIP: None}}
- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {namespace: \
  a, name: web-1, labels: {app: web, kubernetes.io/service-name: web}}}
- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {namespace: \
  a, name: api-1, labels: {kubernetes.io/service-name: api}}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: a, name: p, labels: {app: web}}, status: \
  {phase: Running, podIP: 10.0.0.1}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: a, name: q}, status: {phase: Running, podIP: \
  10.0.0.2}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: a, name: over, labels: {app: web}}, status: \
  {phase: Failed, podIP: 10.0.0.1}}
";
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("all.yaml"), text).expect("a file");
    let check = |options: &Options, expected: &str| {
        let lists = read_once(&[folder.path().to_path_buf()], options).expect("good manifests");
        assert_eq!(lists, expected);
    };
    let all = options();
    check(
        &all,
        "{ns:a ns:b} {svc:a/api svc:a/web} {slice:a/api-1 slice:a/web-1} {pod:a/p pod:a/q}",
    );
    let labels = Options { labels: selector("app", "web"), ..all.clone() };
    check(&labels, "{ns:a ns:b} {svc:a/web} {slice:a/web-1} {pod:a/p}");
    let namespaces = Options { namespace_labels: selector("dns", "yes"), ..all.clone() };
    check(
        &namespaces,
        "{ns:a} {svc:a/api svc:a/web} {slice:a/api-1 slice:a/web-1} {pod:a/p pod:a/q}",
    );
    let few = Options { no_endpoints: true, pods: PodMode::Insecure, ..all };
    check(&few, "{ns:a ns:b} {svc:a/api svc:a/web}");
}

/// In well-formed text an invalid object costs only itself.
#[test]
fn an_invalid_object_costs_only_itself() {
    let bad = SVC.replace("name: web", "name: bad");
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: a, \
                 name: web-1, labels: {kubernetes.io/service-name: web}}\n";
    let map = "apiVersion: v1\nkind: ConfigMap\n";
    // Expected counts: refused Services and slices, invalid parts of Services and slices.
    let rows = [
        (bad.replace("None", "10.0.0.300"), [1, 0, 0, 0]),
        (bad.replace("{clusterIP: None}", "{ports: 80}"), [1, 0, 0, 0]),
        (bad.replace("{clusterIP: None}", "7"), [1, 0, 1, 0]),
        (bad.replace("name: bad", "name: true"), [1, 0, 0, 0]),
        (bad.replace("{namespace: a, name: bad}", "[]"), [1, 0, 0, 0]),
        (bad.replace("name: bad", "name: bad, name: bad"), [0, 0, 1, 0]),
        (format!("{bad}spec: {{clusterIP: 10.0.0.300}}\n"), [1, 0, 1, 0]),
        (format!("{bad}spec: {{clusterIP: None, clusterIP: None}}\n"), [0, 0, 2, 0]),
        (bad.replace("bad}", "bad, labels: {a: 1.5, b: [], c: x}}"), [0, 0, 2, 0]),
        (bad.replace("v1", "v2"), [0, 0, 0, 0]),
        (bad.replace("apiVersion: v1\n", ""), [0, 0, 0, 0]),
        (bad.replace("kind: Service", "kind: [Service]"), [0, 0, 0, 0]),
        (format!("{slice}addressType: [4]\nendpoints: {{}}\n"), [0, 0, 0, 3]),
        (
            format!(
                "{slice}addressType: IPv4\nendpoints: [3, {{addresses: [10.0.0.1, .nan, 1e999, \
                 ~]}}]\n"
            ),
            [0, 0, 0, 4],
        ),
        (slice.replace("name: web-1, ", ""), [0, 1, 0, 0]),
        (format!("{map}metadata: 7\n"), [0, 0, 0, 0]),
        (
            format!(
                "{map}metadata: {{name: [x], labels: 3}}\nspec: {{? [a, b] : c, ~: d, 1: e}}\n"
            ),
            [0, 0, 0, 0],
        ),
        (format!("{map}data: {{a: 1, a: 2}}\nkind: ConfigMap\n"), [0, 0, 0, 0]),
        (format!("{map}status: 340282366920938463463374607431768211456\n"), [0, 0, 0, 0]),
        (
            "apiVersion: v1\nkind: List\nitems: [7, ~, [], {}, words, {kind: Service}]\n"
                .to_owned(),
            [0, 0, 0, 0],
        ),
        ("apiVersion: v1\nkind: ServiceList\nitems: {a: b}\n".to_owned(), [0, 0, 0, 0]),
        ("apiVersion: v1\nmetadata: {}\n".to_owned(), [0, 0, 0, 0]),
        ("words\n".to_owned(), [0, 0, 0, 0]),
        ("7\n".to_owned(), [0, 0, 0, 0]),
        ("~\n".to_owned(), [0, 0, 0, 0]),
    ];
    for (odd, counts) in rows {
        let folder = folder_with("x.yml", &[NS, SVC, &odd, NS].join("---\n"));
        let paths = [folder.path().to_path_buf()];
        let lists = read_once(&paths, &options()).unwrap_or_else(|error| format!("{error}: {odd}"));
        let services: &[&str] = if counts[0] == 0 && lists.contains("svc:a/bad") {
            &["svc:a/bad", "svc:a/web"]
        } else {
            &["svc:a/web"]
        };
        assert!(
            lists.starts_with(&format!("{{ns:a ns:a}} {{{}}} {{", services.join(" "))),
            "{lists} of {odd}"
        );
        let (_, status) = load(&paths, &options()).expect("well-formed");
        let of = |kind: Kind| status.kind(kind).report();
        let (services, slices) = (of(Kind::Service), of(Kind::EndpointSlice));
        let counted = [services.refused, slices.refused, services.odd_parts, slices.odd_parts];
        assert_eq!(counted, counts, "{odd}");
    }
}

#[test]
fn missing_namespaces_and_slices_are_added() {
    let slice = "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {namespace: \
                 b, name: web-1, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\n";
    let endpoints = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Endpoints\nmetadata: {{namespace: b, name: {name}}}\nsubsets: \
             [{{}}, {{}}]\n"
        )
    };
    // The Namespaces of all objects, and slices for Endpoints without slices.
    check("x.yaml", SVC, "{ns:a} {svc:a/web} {} {}");
    check("x.yaml", &[SVC, slice].join("---\n"), "{ns:a ns:b} {svc:a/web} {slice:b/web-1} {}");
    check("x.yaml", &[SVC, NS].join("---\n"), "{ns:a} {svc:a/web} {} {}");
    check(
        "x.yaml",
        &[&endpoints("web"), slice, &endpoints("db")].join("---\n"),
        "{ns:b} {} {slice:b/db/0 slice:b/db/1 slice:b/web-1} {}",
    );
    let folder = folder_with("x.yaml", &[SVC, slice].join("---\n"));
    let paths = [folder.path().to_path_buf()];
    // Labels cannot be guessed.
    let labelled = Options { namespace_labels: selector("dns", "yes"), ..options() };
    assert_eq!(read_once(&paths, &labelled).expect("good"), "{} {svc:a/web} {slice:b/web-1} {}");
    let few = Options { no_endpoints: true, pods: PodMode::Insecure, ..options() };
    assert_eq!(read_once(&paths, &few).expect("good"), "{ns:a ns:b} {svc:a/web}");
}

#[test]
fn folders_in_folders() {
    let folder = TempDir::new().expect("a folder");
    let write = |file: &str, bytes: &[u8]| {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    };
    write("a.yaml", ns("a").as_bytes());
    write(
        "dump/b/services.json",
        br#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"b"}}"#,
    );
    write("dump/b/web/logs.txt", b"==== START logs");
    write("dump/b/c/C.YAML", ns("c").as_bytes());
    let utf16: Vec<u8> = ns("d").encode_utf16().flat_map(u16::to_le_bytes).collect();
    write("windows/d.yml", &[b"\xFF\xFE", utf16.as_slice()].concat());
    write(".git/e.yaml", b"kind: [");
    write("dump/.f.yaml", b"kind: [");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(ns("g").as_bytes()).expect("memory");
    write("packed/g.yaml.gz", &packed.finish().expect("memory"));
    // Links back up, to a folder that is read already, and to nowhere.
    symlink("..", folder.path().join("dump/up")).expect("a link");
    symlink("../packed", folder.path().join("dump/again")).expect("a link");
    symlink("nowhere", folder.path().join("dump/x.yaml")).expect("a link");
    let lists = read_once(&[folder.path().to_path_buf()], &options()).expect("good manifests");
    // `packed` is read once, under the first name that leads there.
    assert_eq!(lists, "{ns:a ns:b ns:c ns:d ns:g} {} {} {}");
    // A folder or file that several paths lead to is also read once.
    let path = |name: &str| folder.path().join(name);
    for paths in [
        [path(""), path("windows")],
        [path("windows"), path("")],
        [path(""), path("")],
        [path(""), path("a.yaml")],
        [path("a.yaml"), path("")],
    ] {
        let lists = read_once(&paths, &options()).expect("good manifests");
        assert_eq!(lists, "{ns:a ns:b ns:c ns:d ns:g} {} {} {}", "{paths:?}");
    }
    let lists = read_once(&[path("dump/b"), path("dump/b/c")], &options());
    assert_eq!(lists.expect("good manifests"), "{ns:b ns:c} {} {} {}");
}

#[test]
fn a_missing_file_is_an_error_at_start_up() {
    let folder = TempDir::new().expect("a folder");
    let check = |path: &Path, expected: &str| {
        let error = load(&[path.to_path_buf()], &options()).err().expect("nothing to read");
        assert_eq!(error.to_string(), format!("{}: {expected}", path.display()));
    };
    let none = "no *.yaml, *.yml, *.json, *.jsonl or *.ndjson file, with or without .gz, in this \
                folder or below";
    check(folder.path(), none);
    fs::write(folder.path().join("notes.txt"), "x").expect("a file");
    fs::write(folder.path().join(".hidden.yaml"), NS).expect("a file");
    fs::create_dir(folder.path().join("folder.yaml")).expect("a folder");
    check(folder.path(), none);
    check(&folder.path().join("x.yaml"), "No such file or directory (os error 2)");
    fs::write(folder.path().join("x.yaml"), [b'a', 0xFF]).expect("a file");
    let cause = "invalid utf-8 sequence of 1 bytes from index 1: save the file as UTF-8, or as \
                 UTF-16 with a byte order mark";
    check(&folder.path().join("x.yaml"), cause);
    assert!(load(&[], &options()).is_err());
}

fn folder_with(file: &str, text: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join(file), text).expect("a file");
    folder
}

fn ns(name: &str) -> String {
    NS.replace("name: a", &format!("name: {name}"))
}

/// The cluster that CoreDNS's responses were recorded for.
#[test]
fn a_real_cluster() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/e2e/conformance/cluster.yaml");
    if !file.exists() {
        return;
    }
    let lists = read_once(std::slice::from_ref(&file), &options()).expect("good manifests");
    let counts: Vec<usize> = lists.split('}').map(|list| list.matches(':').count()).collect();
    let text = fs::read_to_string(&file).expect("a file");
    let expected =
        ["  kind: Namespace\n", "  kind: Service\n", "  kind: EndpointSlice\n", "phase: Running\n"];
    let expected = expected.map(|line| text.matches(line).count());
    assert!(expected.iter().all(|count| *count > 5));
    assert_eq!(counts[..4], expected);
    let (_, status) = load(&[file], &options()).expect("good manifests");
    assert!(status.reports().iter().all(|report| report.refused == 0));
}

//! Files and folders that change while the source runs.

use super::*;

/// A running source, its folder and its events.
struct Running {
    folder: TempDir,
    events: Receiver<Event>,
    status: Arc<SourceStatus>,
}

impl Running {
    /// `path` is relative to the folder.
    fn start(folder: TempDir, path: &str) -> Self {
        let (manifests, status) =
            load(&[folder.path().join(path)], &options()).expect("good at first");
        let (sender, events) = channel(4);
        tokio::spawn(manifests.run(sender));
        Self { folder, events, status }
    }

    async fn expect(&mut self, expected: &str) {
        assert_eq!(next_lists(&mut self.events, 4).await, expected);
        assert!(self.error().is_none() && self.status.is_synced());
    }

    /// Waits until the source reports this error. It must send nothing meanwhile.
    async fn expect_error(&mut self, expected: &str) {
        let began = tokio::time::Instant::now();
        while !self.error().is_some_and(|error| error.contains(expected)) {
            assert!(began.elapsed() < SOON, "{:?} should hold {expected:?}", self.error());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(self.events.try_recv().is_err(), "the old state stays");
        assert!(self.status.is_synced());
    }

    fn error(&self) -> Option<String> {
        self.status.kind(Kind::Service).report().error
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).expect("a file");
    }

    /// Writes beside the file and renames over it, as editors and users should.
    fn replace(&self, file: &str, text: &str) {
        self.write(".new", text);
        fs::rename(self.folder.path().join(".new"), self.folder.path().join(file)).expect("a file");
    }
}

#[tokio::test]
async fn a_file_that_changes() {
    let mut source = Running::start(folder_with("x.yaml", NS), "x.yaml");
    source.expect("{ns:a} {} {} {}").await;
    source.write("x.yaml", &ns("b"));
    source.expect("{ns:b} {} {} {}").await;
    source.replace("x.yaml", &ns("c"));
    source.expect("{ns:c} {} {} {}").await;
    // Another file of the same folder does not matter.
    source.write("y.yaml", &ns("y"));
    source.replace("x.yaml", &ns("d"));
    source.expect("{ns:d} {} {} {}").await;
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_state() {
    let mut source = Running::start(folder_with("x.yaml", NS), "x.yaml");
    source.expect("{ns:a} {} {} {}").await;
    source.write("x.yaml", "kind: [");
    source.expect_error("x.yaml:1:7: ").await;
    source.write("x.yaml", "");
    source.expect_error("x.yaml: the file contains no YAML or JSON document").await;
    fs::remove_file(source.folder.path().join("x.yaml")).expect("a file");
    source.expect_error("x.yaml: No such file").await;
    source.write("x.yaml", &ns("b"));
    source.expect("{ns:b} {} {} {}").await;
    assert_eq!(source.status.kind(Kind::Namespace).report().lists, 2);
}

#[tokio::test]
async fn a_folder_gains_and_loses_files() {
    let mut source = Running::start(folder_with("x.yaml", NS), "");
    source.expect("{ns:a} {} {} {}").await;
    source.replace("y.json", r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"y"}}"#);
    source.expect("{ns:a ns:y} {} {} {}").await;
    fs::remove_file(source.folder.path().join("x.yaml")).expect("a file");
    source.expect("{ns:y} {} {} {}").await;
    fs::remove_file(source.folder.path().join("y.json")).expect("a file");
    source.expect_error("no *.yaml").await;
}

#[tokio::test]
async fn subfolders_are_added_and_removed() {
    let mut source = Running::start(folder_with("x.yaml", NS), "");
    source.expect("{ns:a} {} {} {}").await;
    fs::create_dir(source.folder.path().join("below")).expect("a folder");
    source.expect("{ns:a} {} {} {}").await;
    source.replace("below/y.yaml", &ns("y"));
    source.expect("{ns:a ns:y} {} {} {}").await;
    fs::remove_dir_all(source.folder.path().join("below")).expect("a folder");
    source.expect("{ns:a} {} {} {}").await;
}

/// The volume of a ConfigMap: files are links to `..data/file`, and `..data` is a link that is
/// swapped.
#[tokio::test]
async fn a_mounted_config_map_is_swapped() {
    let folder = TempDir::new().expect("a folder");
    let generation = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).expect("a folder");
        fs::write(path.join("x.yaml"), text).expect("a file");
        symlink(name, folder.path().join("..data_tmp")).expect("a link");
        fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).expect("a swap");
    };
    generation("..1", &ns("a"));
    symlink("..data/x.yaml", folder.path().join("x.yaml")).expect("a link");
    for path in ["", "x.yaml"] {
        let (manifests, _) = load(&[folder.path().join(path)], &options()).expect("good at first");
        let (sender, mut events) = channel(4);
        let running = tokio::spawn(manifests.run(sender));
        assert_eq!(next_lists(&mut events, 4).await, "{ns:a} {} {} {}");
        generation("..2", &ns("b"));
        assert_eq!(next_lists(&mut events, 4).await, "{ns:b} {} {} {}");
        fs::remove_dir_all(folder.path().join("..1")).expect("the old generation");
        generation("..1", &ns("a"));
        assert_eq!(next_lists(&mut events, 4).await, "{ns:a} {} {} {}");
        fs::remove_dir_all(folder.path().join("..2")).expect("the old generation");
        drop(events);
        running.await.expect("the task ends with its receiver");
    }
}

#[tokio::test]
async fn a_folder_behind_a_link_is_swapped() {
    let folder = folder_with("x.yaml", "unused: true");
    for (name, namespace) in [("one", "a"), ("two", "b")] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
        fs::write(folder.path().join(name).join("x.yaml"), ns(namespace)).expect("a file");
    }
    symlink("one", folder.path().join("current")).expect("a link");
    let mut source = Running::start(folder, "current");
    source.expect("{ns:a} {} {} {}").await;
    symlink("two", source.folder.path().join("next")).expect("a link");
    fs::rename(source.folder.path().join("next"), source.folder.path().join("current"))
        .expect("a swap");
    source.expect("{ns:b} {} {} {}").await;
    // The new folder is watched now.
    source.write("two/x.yaml", &ns("c"));
    source.expect("{ns:c} {} {} {}").await;
}

//! An API server that is fast, needs no etcd, and fails on command.
//!
//! It lists and watches namespaces, Services and EndpointSlices over plain HTTP/1.1 on loopback, in
//! protobuf and JSON: pages, streaming lists, bookmarks, metadata only. `fault` says what it does
//! wrong. There is no other request, and there are no selectors. Its thread ends with the process.

pub mod fault;
pub mod object;
mod responses;
pub mod schema;
mod serving;
mod store;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;
use tokio::sync::watch;

use fault::{Fault, Faults, Habit};
use object::{FakeObject, Resource};
use store::Store;

/// A running fake.
pub struct FakeApi {
    address: SocketAddr,
    state: Arc<FakeState>,
    dir: TempDir,
}

struct FakeState {
    inner: Mutex<Inner>,
    /// Counts whatever running watches must look at.
    changed: watch::Sender<u64>,
    /// The newest connection that is cut.
    cut: watch::Sender<u64>,
}

struct Inner {
    store: Store,
    faults: Faults,
    habits: HashSet<Habit>,
    connection_count: u64,
    /// Whole lists that were requested, by kind.
    list_counts: [usize; 4],
    /// Connections up to this one get nothing any more.
    frozen_until: u64,
    /// The state that lists are of while the server lags behind.
    cache: Option<Store>,
    /// Lists that were refused because the cache had not reached their version.
    too_large_count: usize,
}

impl FakeApi {
    /// Starts it with the namespace `default` and the Service `kubernetes`.
    pub fn start() -> Self {
        let state = Arc::new(FakeState {
            inner: Mutex::new(Inner {
                store: Store::new(),
                faults: Faults::default(),
                habits: HashSet::new(),
                connection_count: 0,
                list_counts: [0; 4],
                frozen_until: 0,
                cache: None,
                too_large_count: 0,
            }),
            changed: watch::Sender::new(0),
            cut: watch::Sender::new(0),
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        listener.set_nonblocking(true).expect("a socket");
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let serving = async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                serving::serve(listener, served).await
            };
            runtime.expect("a runtime").block_on(serving).expect("a socket");
        });
        let dir = tempfile::Builder::new().prefix("ringdns-fake-").tempdir().expect("a folder");
        let fake = Self { address, state, dir };
        fake.put(object::namespace("default"));
        fake.put(object::service("default", "kubernetes", Some(Ipv4Addr::new(10, 96, 0, 1))));
        fake
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self.dir.path().join("kubeconfig");
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: fake, \
             contexts: [{{name: fake, context: {{cluster: fake, user: fake}}}}], \
             clusters: [{{name: fake, cluster: {{server: 'http://{}'}}}}], \
             users: [{{name: fake, user: {{}}}}]}}\n",
            self.address
        );
        std::fs::write(&path, text).expect("a kubeconfig");
        path
    }

    /// Creates or changes an object.
    pub fn put(&self, object: impl Into<FakeObject>) {
        self.put_all([object.into()]);
    }

    /// Several at once: a watch gets them in one piece.
    pub fn put_all(&self, objects: impl IntoIterator<Item = FakeObject>) {
        let mut inner = lock(&self.state.inner);
        objects.into_iter().for_each(|object| inner.store.put(object));
        drop(inner);
        self.state.wake();
    }

    /// Deletes an object, if it exists.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) {
        lock(&self.state.inner).store.delete(resource, namespace, name);
        self.state.wake();
    }

    /// Makes an object anew under the same name: watches get both events in one piece.
    pub fn replace(&self, object: impl Into<FakeObject>) {
        let object = object.into();
        let (namespace, name) = object.key();
        let mut inner = lock(&self.state.inner);
        inner.store.delete(object.resource(), &namespace, &name);
        inner.store.put(object);
        drop(inner);
        self.state.wake();
    }

    /// All objects, in no fixed order.
    pub fn objects(&self) -> Vec<FakeObject> {
        let inner = lock(&self.state.inner);
        let all = Resource::ALL.into_iter().flat_map(|resource| inner.store.objects(resource));
        all.map(|stored| stored.object.clone()).collect()
    }

    /// Lets a fault happen so many times, each as soon as it can.
    pub fn inject(&self, resource: Resource, fault: Fault, count: usize) {
        lock(&self.state.inner).faults.add(resource, fault, count);
        self.state.wake();
    }

    /// Faults that have not happened yet.
    pub fn faults_left(&self) -> usize {
        lock(&self.state.inner).faults.left()
    }

    /// Whole lists of a kind that were requested so far: of several pages the first counts, and
    /// requests for one object or for metadata only do not.
    pub fn list_count(&self, resource: Resource) -> usize {
        lock(&self.state.inner).list_counts[resource.index()]
    }

    /// From now on, lists come from a cache that stays at this state, as from another API server
    /// that lags behind, unless they are requested as of now. Watches are not affected.
    pub fn lag(&self) {
        let mut inner = lock(&self.state.inner);
        inner.cache = Some(inner.store.clone());
    }

    /// Lists that were refused because the cache was too old for them.
    pub fn too_large_count(&self) -> usize {
        lock(&self.state.inner).too_large_count
    }

    pub fn adopt(&self, habit: Habit) {
        lock(&self.state.inner).habits.insert(habit);
    }

    pub fn drop_habit(&self, habit: Habit) {
        lock(&self.state.inner).habits.remove(&habit);
    }

    /// Forgets the events: watches that are behind get 410 Gone.
    pub fn compact(&self) {
        lock(&self.state.inner).store.compact();
    }

    /// Stops sending on all connections without closing them; new ones work.
    pub fn freeze(&self) {
        let mut inner = lock(&self.state.inner);
        inner.frozen_until = inner.connection_count;
    }

    /// Closes all connections.
    pub fn cut(&self) {
        let newest = lock(&self.state.inner).connection_count;
        self.state.cut.send_replace(newest);
    }
}

impl Inner {
    /// What a list that must not be older than `version` is of. `None` if the cache is. An empty
    /// version means as of now.
    fn listed(&mut self, version: &str) -> Option<&Store> {
        let is_old = |cache: &Store| version.parse().is_ok_and(|version| cache.version < version);
        match &self.cache {
            Some(cache) if is_old(cache) => {
                self.too_large_count += 1;
                None
            }
            Some(cache) if !version.is_empty() => Some(cache),
            Some(_) | None => Some(&self.store),
        }
    }
}

impl FakeState {
    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn has(&self, habit: Habit) -> bool {
        lock(&self.inner).habits.contains(&habit)
    }

    fn is_frozen(&self, connection: u64) -> bool {
        connection <= lock(&self.inner).frozen_until
    }

    async fn when_cut(&self, connection: u64) {
        let mut cut = self.cut.subscribe();
        // The sender lives as long as this value.
        let _ = cut.wait_for(|newest| connection <= *newest).await;
    }
}

/// The protected data is always consistent, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

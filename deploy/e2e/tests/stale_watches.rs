//! Watches that are open but no longer report changes: after etcd was restored, behind a balancer
//! that dropped the connection, or if the old certificates are no longer accepted.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;
use e2e::authority::{Authority, Identity};
use e2e::balancer::{Balancer, Terminator};
use e2e::cluster::Cluster;
use e2e::corefile::{Corefile, STOCK};
use e2e::credentials::kubeconfig;
use e2e::deadline::poll;
use e2e::objects::service;
use e2e::question::Question;
use e2e::say::say;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;
use serde_json::json;

/// How long a change may stay unseen: 24 s of silence are suspicious.
const NOTICED_LIMIT: Duration = Duration::from_secs(30);

/// How long new credentials may stay unread.
const RENEWED_LIMIT: Duration = Duration::from_secs(60);

/// How far etcd's revision is ahead of its backup: more than an API server writes during start-up.
const CHANGES_AFTER_BACKUP: usize = 300;

/// One cluster at a time: two would only slow each other down.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn etcd_restored_from_a_backup() {
    let Some(tools) = Tools::find("stale_watches::etcd_restored_from_a_backup") else { return };
    let _alone = ALONE.lock();
    let mut cluster = Cluster::start(&tools);
    cluster.objects().create(&service("same", "10.96.1.1"));
    cluster.back_up();
    let corefile = Corefile::new(STOCK).with_kubeconfig(&cluster.kubeconfig());
    let server = Server::start(Kind::Ringdns, &corefile, Some(&tools));

    for index in 0..CHANGES_AFTER_BACKUP {
        let changed = json!({ "metadata": { "labels": { "index": index.to_string() } } });
        cluster.objects().patch("Service", "default", "same", changed);
    }
    cluster.objects().create(&service("lost", "10.96.1.2"));
    cluster.objects().delete("Service", Some("default"), "same");
    wait_for(&server, "lost", true, NOTICED_LIMIT);
    wait_for(&server, "same", false, NOTICED_LIMIT);

    cluster.restore();
    let began = Instant::now();
    wait_for(&server, "same", true, NOTICED_LIMIT);
    wait_for(&server, "lost", false, NOTICED_LIMIT);
    cluster.objects().create(&service("after", "10.96.1.3"));
    wait_for(&server, "after", true, NOTICED_LIMIT);
    say(&format!("etcd restored: up to date {:?} after the API server was ready", began.elapsed()));
    let log = server.log();
    let back = log.find("resource version has gone back");
    let again = log.find("up to date again kind=\"services\"");
    assert!(back.is_some() && back < again, "it was not up to date earlier:\n{log}");
}

#[test]
fn a_balancer_drops_the_connections() {
    let Some(tools) = Tools::find("stale_watches::a_balancer_drops_the_connections") else {
        return;
    };
    let _alone = ALONE.lock();
    let cluster = Cluster::start(&tools);
    let balancer = Balancer::start(cluster.port());
    let path = cluster.credentials().write_kubeconfig(balancer.port());
    let corefile = Corefile::new(STOCK).with_kubeconfig(&path);
    let server = Server::start(Kind::Ringdns, &corefile, Some(&tools));

    balancer.freeze();
    let began = Instant::now();
    cluster.objects().create(&service("half", "10.96.1.4"));
    wait_for(&server, "half", true, NOTICED_LIMIT);
    say(&format!("connections dropped: noticed after {:?}", began.elapsed()));
}

#[test]
fn certificates_rotate() {
    let Some(tools) = Tools::find("stale_watches::certificates_rotate") else { return };
    let _alone = ALONE.lock();
    let cluster = Cluster::start(&tools);
    let balancer = Balancer::start(cluster.port());
    let files = Files { dir: tempfile::tempdir().expect("a folder") };
    let authority = Authority::new("first authority");
    let clients = Authority::new("first authority of clients");
    files.write(&authority, &clients.issue_client("dns"));
    let terminate = |authority: &Authority, clients: &Authority| {
        balancer.terminate(&Terminator {
            server: &authority.issue_server("balancer"),
            clients,
            client: cluster.credentials().client(),
            authority: &fs::read_to_string(cluster.credentials().authority()).expect("a file"),
        });
    };
    terminate(&authority, &clients);
    let corefiles = [
        Corefile::new(STOCK).with_kubeconfig(&files.write_kubeconfig(balancer.port())),
        Corefile::new(STOCK).with_endpoint(
            balancer.port(),
            &files.path("client.crt"),
            &files.path("client.key"),
            &files.path("ca.crt"),
        ),
    ];
    let servers = corefiles.map(|corefile| Server::start(Kind::Ringdns, &corefile, Some(&tools)));

    // The balancer rotates first, so the servers fail for a while until they have the new files.
    let clients = Authority::new("second authority of clients");
    terminate(&authority, &clients);
    for server in &servers {
        poll(NOTICED_LIMIT, "a refused client", || {
            server.log().contains("cannot update objects").then_some(())
        });
    }
    files.write(&authority, &clients.issue_client("dns"));
    cluster.objects().create(&service("clients", "10.96.1.5"));
    for server in &servers {
        wait_for(server, "clients", true, RENEWED_LIMIT);
    }

    let authority = Authority::new("second authority");
    files.write(&authority, &clients.issue_client("dns"));
    terminate(&authority, &clients);
    cluster.objects().create(&service("authority", "10.96.1.6"));
    for server in &servers {
        wait_for(server, "authority", true, RENEWED_LIMIT);
    }
}

#[test]
fn a_token_rotates_on_disk() {
    let Some(tools) = Tools::find("stale_watches::a_token_rotates_on_disk") else { return };
    let _alone = ALONE.lock();
    let mut cluster = Cluster::start(&tools);
    let dir = tempfile::tempdir().expect("a folder");
    let [token, config] = ["token", "kubeconfig"].map(|name| dir.path().join(name));
    fs::write(&token, "first").expect("a file");
    let authority = cluster.credentials().authority();
    let text = kubeconfig(cluster.port(), &authority, "{tokenFile: token}");
    fs::write(&config, text).expect("a kubeconfig");
    let restart_with = |cluster: &mut Cluster, token: &str| {
        cluster.kill_api_server();
        cluster.credentials().accept_token(token);
        cluster.start_api_server();
    };
    restart_with(&mut cluster, "first");
    cluster.objects().create(&service("before", "10.96.1.7"));
    let corefile = Corefile::new(STOCK).with_kubeconfig(&config);
    let server = Server::start(Kind::Ringdns, &corefile, Some(&tools));
    wait_for(&server, "before", true, NOTICED_LIMIT);

    // The API server no longer accepts the token; the file follows later.
    restart_with(&mut cluster, "second");
    poll(NOTICED_LIMIT, "a refused token", || server.log().contains("(HTTP 401)").then_some(()));
    cluster.objects().create(&service("after", "10.96.1.8"));
    wait_for(&server, "before", true, NOTICED_LIMIT);
    fs::write(&token, "second").expect("a file");
    wait_for(&server, "after", true, RENEWED_LIMIT);
}

/// The files that a client of the balancer reads.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, authority: &Authority, client: &Identity) {
        let texts = [
            ("ca.crt", authority.certificate()),
            ("client.crt", &client.certificate),
            ("client.key", &client.key),
        ];
        for (name, text) in texts {
            fs::write(self.path(name), text).expect("a file");
        }
    }

    fn write_kubeconfig(&self, port: u16) -> PathBuf {
        let path = self.path("kubeconfig");
        let user = "{client-certificate: client.crt, client-key: client.key}";
        fs::write(&path, kubeconfig(port, &self.path("ca.crt"), user)).expect("a kubeconfig");
        path
    }
}

#[track_caller]
fn wait_for(server: &Server, name: &str, exists: bool, limit: Duration) {
    let question = Question::new(format!("{name}.default.svc.cluster.local."), Rtype::A);
    let what = format!("{name} to be {}", if exists { "present" } else { "gone" });
    poll(limit, &what, || {
        let answer = server.answer(&question);
        (answer.is_nxdomain() != exists && answer.answer.is_empty() != exists).then_some(())
    });
}

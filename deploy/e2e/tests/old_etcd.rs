//! An API server that cannot request the progress of its etcd, so that it has no streaming lists
//! and reads lists as of now from etcd: the answers are those of any other, also after it was away.

use std::time::Duration;

use domain::base::iana::Rtype;
use e2e::cluster::{Authorization, Cluster, Etcd};
use e2e::corefile::{Corefile, STOCK};
use e2e::deadline::poll;
use e2e::objects::service;
use e2e::question::Question;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;

/// How long a change may take to be answered, also after the API server's return.
const CHANGE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn lists_and_watches() {
    let Some(tools) = Tools::find("old_etcd") else { return };
    let mut cluster = Cluster::start_on(Etcd::WithoutProgress, Authorization::Open, &tools);
    cluster.objects().create(&service("before", "10.96.1.1"));
    let corefile = Corefile::new(STOCK).with_kubeconfig(&cluster.kubeconfig());
    let server = Server::start(Kind::subject(), &corefile, Some(&tools));
    assert_eq!(server.answer(&in_default("before")).data_of(Rtype::A), ["10.96.1.1"]);

    cluster.objects().create(&service("during", "10.96.1.2"));
    wait_for(&server, "during", true);
    cluster.objects().delete("Service", Some("default"), "before");
    wait_for(&server, "before", false);

    cluster.kill_api_server();
    let other = cluster.second_api_server();
    other.objects().create(&service("unseen", "10.96.1.3"));
    other.objects().delete("Service", Some("default"), "during");
    drop(other);
    assert_eq!(server.answer(&in_default("during")).data_of(Rtype::A), ["10.96.1.2"]);
    cluster.start_api_server();
    wait_for(&server, "unseen", true);
    wait_for(&server, "during", false);
}

fn wait_for(server: &Server, name: &str, exists: bool) {
    poll(CHANGE_LIMIT, name, || {
        let answer = server.answer(&in_default(name));
        (answer.answer.is_empty() != exists && answer.is_nxdomain() != exists).then_some(())
    });
}

fn in_default(name: &str) -> Question {
    Question::new(format!("{name}.default.svc.cluster.local."), Rtype::A)
}

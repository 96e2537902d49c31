//! What a large cluster costs: ringdns and CoreDNS in turn on one real API server, as one table.
//!
//! ```text
//! deploy/e2e/build.sh && cargo build --release -p engine -p loadgen
//! cargo run --release -p e2e --example at_scale -- --help
//! ```
//! Both servers share the machine with the API server: compare the two columns, on a quiet machine.

mod boot;
mod changes;
mod fake;
mod outage;
mod pods;
mod scene;
mod start;
mod stir;
mod table;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use e2e::cluster::{Authorization, Cluster, Etcd};
use e2e::corefile::{Corefile, STOCK};
use e2e::tools::Tools;

use fake::FakeScale;
use scene::Scene;
use table::Row;
use world::ENDPOINTS_PER_SERVICE;

/// Changes per second of the part `fake`.
const FAKE_CHANGE_RATE: u32 = 500;

/// Measure ringdns and CoreDNS with a large cluster in a real API server
#[derive(Parser, Debug)]
struct Cli {
    /// Services, each with one EndpointSlice of three endpoints
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(10..=60_000))]
    services: usize,
    /// Starts, restarts and outages of each server; loads of the part `fake`
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
    /// Changes of each sort
    #[arg(long, default_value_t = 200, value_name = "COUNT")]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    changes: usize,
    /// Pods for the part `pods`; 50,000 take about two minutes to make
    #[arg(long, default_value_t = 50_000, value_name = "COUNT")]
    pods: usize,
    /// Load during the part `load`, as a share of the highest rate with loss ≤ 0.1 % and p99 ≤ 10
    /// ms beside the API server
    #[arg(long, default_value_t = 0.8, value_name = "SHARE")]
    load: f64,
    /// The API server's store; `old` is 3.5.7, which no API server can ask for its progress
    #[arg(long, value_enum, default_value = "current")]
    etcd: EtcdChoice,
    /// Services of the part `fake`, each with five endpoints
    #[arg(long, default_value_t = 100_000, value_name = "COUNT")]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(10..=500_000))]
    fake_services: usize,
    /// Changes per second during the load: of the part `load` beside those that are measured
    /// [default: none], and of the part `fake` [default: 500]
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    change_rate: Option<u32>,
    /// Queries per second of the part `fake`
    #[arg(long, default_value_t = 20_000.0, value_name = "COUNT")]
    fake_load: f64,
    /// Measure only these parts [default: all but `fake`]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EtcdChoice {
    Current,
    Old,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Time, CPU and memory of starts
    Start,
    /// A change → its answer
    Changes,
    /// The same under load
    Load,
    /// Memory while and after the API server restarts
    Restart,
    /// The API server is down for 10 s while the servers start, ringdns also with a snapshot
    Boot,
    /// Memory with many pods; the last of the real API server, because the pods remain
    Pods,
    /// A larger cluster in a fake API server, without CoreDNS
    Fake,
}

impl Part {
    /// Whether it needs the real API server.
    fn is_real(self) -> bool {
        match self {
            Self::Start | Self::Changes | Self::Load | Self::Restart | Self::Boot | Self::Pods => {
                true
            }
            Self::Fake => false,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_wanted = |part: &&Part| match cli.only.is_empty() {
        true => part.is_real(),
        false => cli.only.contains(part),
    };
    let parts: Vec<Part> = Part::value_variants().iter().filter(is_wanted).copied().collect();
    let mut rows = Vec::new();
    if parts.iter().any(|part| part.is_real()) {
        let Some(tools) = Tools::find("at_scale") else { return ExitCode::from(3) };
        let mut scene = scene(&cli, tools);
        for part in &parts {
            rows.extend(measure(&cli, &mut scene, *part));
        }
    }
    if parts.contains(&Part::Fake) {
        rows.extend(fake::measure(&FakeScale {
            service_count: cli.fake_services,
            rounds: cli.rounds,
            change_count: cli.changes,
            changes_per_sec: cli.change_rate.unwrap_or(FAKE_CHANGE_RATE),
            load_qps: cli.fake_load,
        }));
    }
    table::print(&rows);
    println!(
        "etcd: {:?}; median (min–max) of {} rounds; {} changes of each sort",
        cli.etcd, cli.rounds, cli.changes
    );
    ExitCode::SUCCESS
}

/// Starts the API server and creates the objects.
fn scene(cli: &Cli, tools: Tools) -> Scene {
    let etcd = match cli.etcd {
        EtcdChoice::Current => Etcd::Current,
        EtcdChoice::Old => Etcd::WithoutProgress,
    };
    let cluster = Cluster::start_on(etcd, Authorization::Open, &tools);
    let corefile = Corefile::new(STOCK).with_kubeconfig(&cluster.kubeconfig());
    let began = Instant::now();
    println!("making {} Services ...", cli.services);
    world::fill(cluster.objects(), cli.services);
    println!(
        "{} Services and EndpointSlices, {} endpoints made in {:.1?}",
        cli.services,
        cli.services * ENDPOINTS_PER_SERVICE,
        began.elapsed()
    );
    Scene { cluster, corefile, tools, service_count: cli.services }
}

fn measure(cli: &Cli, scene: &mut Scene, part: Part) -> Vec<Row> {
    match part {
        Part::Start => start::measure(scene, cli.rounds),
        Part::Changes => changes::measure_idle(scene, cli.changes),
        Part::Load => changes::measure_loaded(scene, cli.changes, cli.load, cli.change_rate),
        Part::Restart => outage::measure(scene, cli.rounds),
        Part::Boot => boot::measure(scene, cli.rounds),
        Part::Pods => pods::measure(scene, cli.pods, cli.rounds),
        Part::Fake => Vec::new(),
    }
}

//! The start-up, on one screen: Corefile → shards → clusters → sockets → the control loop.
//!
//! Invariant: no socket opens before its block's tables were read or their time-out has passed.
#![deny(
    clippy::dbg_macro,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "they panic if the output is closed, and wait if nobody reads it"
)]

mod control;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use engine::admin::{Admin, Readiness};
use engine::answer::exit::Reports;
use engine::cli::{Cli, Command};
use engine::fleet::{Fleet, FleetSettings};
use engine::io::allocator;
use engine::io::socket::PortClaim;
use engine::limits::{ERROR_REPORTS_WAITING_MAX, LOG_FLUSH_TIMEOUT};
use engine::metrics::Metrics;
use engine::plugin::kubernetes::Kubernetes;

use control::error_log::ErrorLog;
use control::history::History;
use control::node::NodeMode;
use control::placement::Placement;
use control::query_log::QueryLog;
use control::restarts::Restarts;
use control::server::Server;
use control::signals::Signals;
use control::{
    Control, checking, conversion, endpoints, explaining, log, output, slow, start as start_up,
    supervision,
};

/// The first sync makes and frees many small objects: mimalloc is fast at it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `/ready` waits for at the start-up, beside the clusters.
const SOCKETS: &str = "sockets";
const OF_DNS: &str = "for DNS";

fn main() -> ExitCode {
    allocator::give_back_at_once();
    let cli = Cli::from_process();
    if cli.version {
        return output::print(&format!("{}\n", start_up::version()));
    }
    if cli.plugins {
        return output::print(&start_up::plugins());
    }
    match &cli.command {
        Some(Command::Check(options)) => return checking::run(options, cli.dns_port),
        Some(Command::Explain(options)) => return explaining::run(&cli, options),
        Some(Command::Convert { file }) => return conversion::run(file, cli.dns_port),
        None => {}
    }
    let ended = log::start(cli.log_format).context("cannot start the log's thread");
    let ended = ended.and_then(|log| {
        let ended = serve(&cli, &log);
        log.flush(LOG_FLUSH_TIMEOUT);
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain_in_time(&start_up::last_words(&cli, &format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal ends the process.
fn serve(cli: &Cli, log: &log::LogQueue) -> anyhow::Result<()> {
    start_up::raise_descriptor_limit();
    start_up::raise_port_capability();
    // The first sync touches much memory once. With huge pages it would not be returned: a third
    // more memory at 10,000 Services.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the control runtime")?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen().context("cannot listen to signals")?;
        let control = tokio::select! {
            control = start(cli, log) => control?,
            end = signals.end() => {
                tracing::info!("{}", end.message());
                return Ok(());
            }
        };
        control.run(signals).await
    });
    // Dropping it would wait for a file or a resolver that hangs.
    runtime.shutdown_background();
    if let Some(pidfile) = &cli.pidfile {
        slow::remove_pidfile(pidfile);
    }
    ended
}

async fn start(cli: &Cli, log: &log::LogQueue) -> anyhow::Result<Control> {
    let (origin, is_example) = start_up::corefile(cli)?;
    let (source, config) = start_up::load(origin, cli.dns_port).await?;

    let backend = start_up::backend(cli.io)?;
    let busy_poll = cli.busy_poll.unwrap_or_default();
    let settings = FleetSettings { backend, busy_poll, steer: cli.steer };
    let cores = start_up::cores(cli)?;
    let metrics = Arc::new(Metrics::new(start_up::build(), cores.len()));
    let shard_metrics: Vec<_> = (0..cores.len()).map(|index| metrics.shard(index)).collect();
    let (errors, error_reports) = crossbeam_channel::bounded(ERROR_REPORTS_WAITING_MAX);
    let reports = Reports { errors, queries: Arc::default() };
    let fleet = Fleet::start(settings, &cores, &shard_metrics, &reports)
        .context("cannot start the shards")?;
    start_up::publish_facts(&metrics, &cores, backend);

    // Before the sockets, which have its addresses.
    let node = NodeMode::start(&cli.node, cli.dns_port, &metrics);

    // /health and /ready respond while the clusters are being read.
    let readiness = Arc::new(Readiness::default());
    readiness.set_monitor(endpoints::monitor(&config));
    for block in config.blocks.iter().filter(|block| block.line::<Kubernetes>().is_some()) {
        readiness.wait_for("kubernetes", &block.place.line.to_string(), "starting");
    }
    // Hosts and zone files, and host names of upstreams, are read before the sockets open too.
    readiness.wait_for(SOCKETS, OF_DNS, "open once all files have been read");
    let claim = if cli.take_over { PortClaim::TakeOver } else { PortClaim::Alone };
    let endpoints = endpoints::of(&config, cli.node.metrics_address.as_ref());
    let admin =
        Admin::bind(&endpoints, Arc::clone(&metrics), Arc::clone(&readiness), claim).await?;
    endpoints::publish_facts(&metrics, &config);
    supervision::start(&fleet, &readiness, &metrics);

    let mut queries = QueryLog::new(reports.queries, log.clone(), cli.log_format, cores.len());
    let mut server = Server::new(fleet, Arc::clone(&metrics), queries.listeners(), claim);
    queries.open_for(&config);
    server.apply(&config).await?;
    node.iter().for_each(NodeMode::sockets_are_open);
    readiness.forget(SOCKETS, OF_DNS);
    for block in &config.blocks {
        readiness.forget("kubernetes", &block.place.line.to_string());
    }
    server.syncs().for_each(|sync| control::readiness::report_readiness(&readiness, sync));

    start_up::write_pidfile(cli).await;
    if !cli.quiet {
        let mut banner = start_up::banner(&server, &config, backend, cores.len());
        if is_example {
            banner.push_str(start_up::EXAMPLE_LINES);
        }
        log.push(start_up::as_logged(cli, &banner).as_bytes());
    }
    tracing::info!("plugin/reload: Running configuration SHA512 = {}", config.digest);
    Ok(Control {
        server,
        explain_calls: explaining::ExplainCalls::new(admin.explain_calls()),
        admin,
        metrics,
        readiness,
        errors: ErrorLog::new(error_reports, &config),
        log: log.clone(),
        queries,
        source,
        config,
        folders: control::corefile_folders(),
        failed_reload: None,
        file_failure: None,
        file_retry_at: None,
        restarts: Restarts::default(),
        history: History::default(),
        placement: Placement::new(cores.into_iter().zip(shard_metrics)),
        balance_at: None,
        parts: Vec::new(),
        metrics_address: cli.node.metrics_address.clone(),
        node,
    })
}

//! The start-up, in one screen: Corefile → shards → clusters → sockets → the control loop.

mod consolidator;
mod control;
mod conversion;
mod endpoints;
mod error_log;
mod log;
mod outward;
mod server;
mod start;
mod sync;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use engine::admin::{Admin, Readiness};
use engine::cli::{Cli, Command};
use engine::corefile;
use engine::fleet::{Fleet, Settings};
use engine::limits::ERROR_REPORTS_WAITING_MAX;
use engine::metrics::{Metrics, ShardFacts};

use control::Control;
use error_log::ErrorLog;
use server::Server;

/// The first sync is a burst of JSON: mimalloc takes it fast and gives the memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::from_process();
    if cli.version {
        println!("{}", start::version());
        return ExitCode::SUCCESS;
    }
    if cli.plugins {
        print!("{}", start::plugins());
        return ExitCode::SUCCESS;
    }
    if let Some(Command::Convert { file }) = &cli.command {
        return conversion::run(file, cli.dns_port);
    }
    log::init();
    start::raise_descriptor_limit();
    // The first sync touches much memory once; backed by huge pages it stays, a third more at 10,000 Services.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .context("the control runtime")
        .and_then(|runtime| runtime.block_on(async { start(&cli).await?.run().await }));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(cli: &Cli) -> anyhow::Result<Control> {
    let (path, is_example) = start::corefile(cli)?;
    let config = corefile::load(&path, cli.dns_port)
        .map_err(|report| anyhow::anyhow!("{}", start::shown(&report)))?;
    if !config.warnings.is_empty() {
        eprintln!("{}", start::shown(&config.warnings));
    }

    let backend = start::backend(cli.io)?;
    let settings = Settings { backend, busy_poll: cli.busy_poll.unwrap_or_default() };
    let cores = start::cores(cli)?;
    let metrics = Arc::new(Metrics::new(start::build(), cores.len()));
    let shard_metrics: Vec<_> = (0..cores.len()).map(|index| metrics.shard(index)).collect();
    let (report, reports) = crossbeam_channel::bounded(ERROR_REPORTS_WAITING_MAX);
    let fleet = Fleet::start(settings, &cores, &shard_metrics, &report)
        .context("cannot start the shards")?;
    metrics.facts().shards = cores
        .iter()
        .map(|core| ShardFacts { core: core.map(|core| core.id), backend: backend.name() })
        .collect();

    // Health and readiness are there while the clusters are being read.
    let readiness = Arc::new(Readiness::default());
    readiness.set_monitor(endpoints::monitor(&config));
    for block in config.blocks.iter().filter(|block| block.kubernetes.is_some()) {
        readiness.wait_for("kubernetes", &block.place.line.to_string(), "starting");
    }
    let admin = Admin::bind(&endpoints::of(&config), Arc::clone(&metrics), Arc::clone(&readiness))?;
    endpoints::tell_metrics(&metrics, &config);

    let mut server = Server::new(fleet, Arc::clone(&metrics));
    server.apply(&config).await?;
    for block in &config.blocks {
        readiness.forget("kubernetes", &block.place.line.to_string());
    }
    server.syncs().for_each(|sync| control::report_readiness(&readiness, sync));

    if let Some(pidfile) = &cli.pidfile {
        let pid = format!("{}\n", std::process::id());
        std::fs::write(pidfile, pid).with_context(|| format!("-pidfile {}", pidfile.display()))?;
    }
    if !cli.quiet {
        print!("{}", start::banner(&server, &config, backend, cores.len()));
        if is_example {
            println!("{}", start::EXAMPLE_LINES);
        }
    }
    tracing::info!("plugin/reload: Running configuration SHA512 = {}", config.digest);
    Ok(Control {
        server,
        admin,
        metrics,
        readiness,
        errors: ErrorLog::new(reports, &config),
        corefile: path,
        default_port: cli.dns_port,
        config,
        last_failure: None,
        parts: Vec::new(),
    })
}

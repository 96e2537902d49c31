//! Decisions at start-up: which Corefile, which cores, which I/O backend. Also the version and the
//! banner.
//!
//! Invariant: nothing here is called after the start-up, except to show a report or a final error.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use core_affinity::CoreId;
use engine::base_corefile::BaseCorefile;
use engine::cli::{Cli, Cores, Io, LogFormat};
use engine::config::Config;
use engine::corefile::value::key::Scheme;
use engine::corefile::{Finding, Report};
use engine::fleet::Backend;
use engine::io::uring::Uring;
use engine::limits::SHARD_MEMORY_BYTES;
use engine::metrics::{Build, Metrics, ShardFacts, ZoneFacts};
use engine::plugin::DIRECTIVES;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::endpoints::zone_text;
use super::log::{self, Weight};
use super::memory_limit::memory_limit;
use super::server::Server;
use super::slow::{self, CorefileOrigin, CorefileSource, NO_FILE, STDIN};
use super::zones::ZonesFeed;

/// The example that is served if no Corefile is given and the working directory has none.
const EXAMPLE: &str = "deploy/example/Corefile";

/// Where the Corefile comes from, and whether it is the example. Without any, `whoami` and `log`
/// are served, as in CoreDNS.
///
/// # Errors
/// The working directory is unknown.
pub(crate) fn corefile(cli: &Cli) -> anyhow::Result<(CorefileOrigin, bool)> {
    if let Some(base) = BaseCorefile::of(&cli.node) {
        return Ok((CorefileOrigin::Base(base), false));
    }
    let (path, is_example) = corefile_path(cli)?;
    Ok((CorefileOrigin::File(path), is_example))
}

fn corefile_path(cli: &Cli) -> anyhow::Result<(PathBuf, bool)> {
    if let Some(path) = &cli.conf {
        // As in CoreDNS.
        let is_stdin = path == Path::new("stdin") && !path.exists();
        return Ok((if is_stdin { STDIN.into() } else { path.clone() }, false));
    }
    if Path::new("Corefile").is_file() {
        return Ok((PathBuf::from("Corefile"), false));
    }
    let here = std::env::current_dir().context("the working directory")?;
    let example = here.ancestors().map(|folder| folder.join(EXAMPLE)).find(|path| path.is_file());
    match example {
        Some(path) => Ok((path.strip_prefix(&here).map(Path::to_path_buf).unwrap_or(path), true)),
        None => {
            tracing::warn!(
                "no Corefile: there is none in {}, so every query is answered by `whoami`, and \
                 logged; name one with `-conf FILE`",
                here.display()
            );
            Ok((NO_FILE.into(), false))
        }
    }
}

/// Reads the Corefile for the first time.
///
/// # Errors
/// The mistakes in it, or why it cannot be read.
pub(crate) async fn load(
    origin: CorefileOrigin,
    default_port: u16,
) -> anyhow::Result<(CorefileSource, Config)> {
    let (source, config) = CorefileSource::first(origin, default_port).await?;
    match config {
        Ok(config) => {
            log_warnings(&config.warnings);
            Ok((source, config))
        }
        Err(report) => bail!("{}", shown(&report)),
    }
}

/// A report, in colours if standard error is a terminal.
pub(crate) fn shown(report: &Report) -> String {
    if std::io::stderr().is_terminal() { report.coloured() } else { report.to_string() }
}

/// Logs the Corefile's warnings, one line each. `ringdns check` underlines their words.
pub(crate) fn log_warnings(warnings: &Report) {
    for Finding { message, help, .. } in warnings.findings() {
        match help {
            Some(help) => tracing::warn!("{message}; {help}"),
            None => tracing::warn!("{message}"),
        }
    }
}

/// The banner as text, or as one JSON object.
pub(crate) fn as_logged(cli: &Cli, banner: &str) -> String {
    match cli.log_format {
        LogFormat::Text => banner.to_owned(),
        LogFormat::Json => log::line(LogFormat::Json, Weight::Info, banner.trim_end()),
    }
}

/// The error that ends the process, as text or as one JSON object.
pub(crate) fn last_words(cli: &Cli, error: &str) -> String {
    match cli.log_format {
        LogFormat::Text => format!("{error}\n"),
        LogFormat::Json => log::line(LogFormat::Json, Weight::Fatal, error),
    }
}

/// Raises the limit of open files to its maximum: each client's connection and each query to an
/// upstream is a socket. Go programs, such as CoreDNS, do so by default. Container runtimes start
/// processes with a limit of 1,024.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}

/// Puts CAP_NET_BIND_SERVICE in force if the process may have it, for ports below 1024.
///
/// The image's file capability permits it only (`+p`). One that is in force at once (`+ep`) would
/// keep the kernel from starting the program where the capability is dropped, with nothing but
/// `operation not permitted` to say why.
pub(crate) fn raise_port_capability() {
    let Ok(mut sets) = capabilities(None) else { return };
    let wanted = CapabilitySet::NET_BIND_SERVICE;
    if sets.permitted.contains(wanted) && !sets.effective.contains(wanted) {
        sets.effective |= wanted;
        if let Err(error) = set_capabilities(None, sets) {
            tracing::warn!("cannot put CAP_NET_BIND_SERVICE in force: {error}");
        }
    }
}

/// The version of the binary.
pub(crate) fn build() -> Build {
    Build {
        version: env!("CARGO_PKG_VERSION").into(),
        // Set by build.rs.
        revision: option_env!("RINGDNS_BUILT_FROM")
            .filter(|text| !text.is_empty())
            .unwrap_or("unknown")
            .into(),
        compiler: concat!("rust", env!("CARGO_PKG_RUST_VERSION")).into(),
    }
}

/// In CoreDNS's format, which tools parse.
pub(crate) fn version() -> String {
    let build = build();
    let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    let machine = match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("ringdns-{}\n{system}/{machine}, {}, {}", build.version, build.compiler, build.revision)
}

/// The plugins that a Corefile may use, one per line.
pub(crate) fn plugins() -> String {
    let built = DIRECTIVES.iter().filter(|directive| directive.is_built());
    built.fold(
        "Server types:\n  dns\n\nCaddyfile loaders:\n  flag\n\nOther plugins:\n".into(),
        |mut text: String, directive| {
            let _ = writeln!(text, "  dns.{}", directive.name);
            text
        },
    )
}

/// The core of each shard: those of `--cores`, or as many usable ones as the CPU quota is worth and
/// the memory limit has room for.
///
/// # Errors
/// `--cores` names a core that the process may not use.
pub(crate) fn cores(cli: &Cli) -> anyhow::Result<Vec<Option<CoreId>>> {
    let usable = core_affinity::get_core_ids().unwrap_or_default();
    let named = match &cli.cores {
        Some(Cores(named)) => {
            let find = |id: &usize| {
                usable.iter().copied().find(|core| core.id == *id).with_context(|| {
                    let usable: Vec<_> = usable.iter().map(|core| core.id.to_string()).collect();
                    format!(
                        "--cores: this process may not use core {id}; it may use {}",
                        usable.join(",")
                    )
                })
            };
            named.iter().map(find).collect::<Result<Vec<_>, _>>()?
        }
        None => usable,
    };
    // Respects cgroup quotas, unlike the list of cores.
    let worth = std::thread::available_parallelism().map_or(1, usize::from);
    let count = match (cli.shards, &cli.cores) {
        (Some(count), _) => count.into(),
        (None, Some(_)) => named.len(),
        (None, None) => within_memory(worth, memory_limit()),
    };
    Ok((0..count).map(|index| named.get(index % named.len().max(1)).copied()).collect())
}

/// Of so many shards, those that a memory limit in bytes has room for, and at least one.
fn within_memory(count: usize, limit: Option<u64>) -> usize {
    let Some(limit) = limit else { return count };
    let room = usize::try_from(limit / SHARD_MEMORY_BYTES).unwrap_or(usize::MAX).max(1);
    if room < count {
        tracing::info!(
            "{room} shards instead of one for each of {count} cores: the memory limit is {} MiB, \
             and a shard may take {} MiB; --shards says how many to run",
            limit >> 20,
            SHARD_MEMORY_BYTES >> 20,
        );
    }
    count.min(room)
}

/// Publishes where each shard runs, and since when.
pub(crate) fn publish_facts(metrics: &Metrics, cores: &[Option<CoreId>], backend: Backend) {
    let shard = |core: &Option<CoreId>| ShardFacts {
        core: core.map(|core| core.id),
        backend: backend.name(),
    };
    let mut facts = metrics.facts();
    facts.shards = cores.iter().map(shard).collect();
    facts.started_at = Some(SystemTime::now());
}

/// Writes `-pidfile`. As in CoreDNS, a folder that is not writable is no reason to end.
pub(crate) async fn write_pidfile(cli: &Cli) {
    let Some(path) = &cli.pidfile else { return };
    if let Err(error) = slow::write_pidfile(path.clone()).await {
        tracing::error!("cannot write -pidfile {}: {error}; serving without it", path.display());
    }
}

/// The I/O backend: tries io_uring, unless `--io mmsg`.
///
/// # Errors
/// `--io uring`, and io_uring is unavailable.
pub(crate) fn backend(io: Io) -> anyhow::Result<Backend> {
    if io == Io::Mmsg {
        return Ok(Backend::Mmsg);
    }
    let Err(error) = Uring::probe() else { return Ok(Backend::Uring) };
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let cause = match sysctl.as_deref().map(str::trim) {
        Ok("1" | "2") => {
            "kernel.io_uring_disabled forbids it: `sysctl kernel.io_uring_disabled=0` allows it"
        }
        _ => match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => {
                "a sandbox denies it: in Kubernetes a seccomp profile of type Localhost that adds \
                 io_uring_setup, io_uring_enter and io_uring_register to RuntimeDefault allows it"
            }
            Some(libc::ENOMEM) => "RLIMIT_MEMLOCK is too small: raise it to 64 MiB",
            _ => "it needs Linux 6.1 or newer",
        },
    };
    if io == Io::Uring {
        bail!("--io uring: {error}\n  {cause}\n  or use `--io auto`");
    }
    tracing::warn!(
        "io_uring is unavailable ({error}); serving with recvmmsg and sendmmsg instead. {cause}"
    );
    Ok(Backend::Mmsg)
}

/// What the server serves, for the log at start-up.
pub(crate) fn banner(
    server: &Server,
    config: &Config,
    backend: Backend,
    shard_count: usize,
) -> String {
    let mut text = String::new();
    for block in &config.blocks {
        for key in &block.keys {
            if key.scheme != Scheme::Dns {
                let _ = write!(text, "{}://", key.scheme.name());
            }
            let _ = writeln!(text, "{}:{}", key.zone.text, key.port);
        }
    }
    let _ = writeln!(text, "{}", version());
    let addresses = |scheme| {
        let addresses = server.bound_addresses(scheme).map(|address| address.to_string());
        addresses.collect::<Vec<_>>().join(", ")
    };
    let listening = [(Scheme::Dns, "UDP and TCP"), (Scheme::Tls, "TLS"), (Scheme::Https, "HTTPS")]
        .map(|(scheme, transports)| (addresses(scheme), transports))
        .into_iter()
        .filter(|(addresses, _)| !addresses.is_empty())
        .map(|(addresses, transports)| format!("{addresses} ({transports})"));
    let listening = listening.collect::<Vec<_>>().join(", ");
    let backend = backend.name();
    let _ = writeln!(text, "listening on {listening}; {shard_count} shard(s), {backend}");
    for sync in server.syncs() {
        let status = sync.status.borrow();
        let zone = zone_text(sync.first_zone());
        let _ = writeln!(
            text,
            "{zone} {} Services, {} endpoint addresses, {} names, {} KiB of answers{}",
            status.services,
            status.endpoints,
            status.names,
            status.table_bytes.div_ceil(1024),
            if status.is_synced { "" } else { " (not completely read yet)" },
        );
    }
    for hosts in server.hosts() {
        let count = hosts.entry_count();
        let _ = writeln!(text, "hosts {}: {count} entries", hosts.settings.file.display());
    }
    for facts in server.zones().flat_map(ZonesFeed::facts) {
        let ZoneFacts { plugin, zone, file, serial, problem } = &*facts;
        let _ = match (serial, problem) {
            (Some(serial), _) => writeln!(text, "{plugin} {file}: {zone} with serial {serial}"),
            (None, Some(_)) if !zone.is_empty() => {
                writeln!(text, "{plugin} {file}: {zone} (not read yet)")
            }
            (None, _) => Ok(()),
        };
    }
    text
}

/// Commands to try with the example.
pub(crate) const EXAMPLE_LINES: &str = "\
This is the example cluster of deploy/example. Ask it, from another terminal:
  dig @127.0.0.1 -p 1053 kubernetes.default.svc.cluster.local
  dig @127.0.0.1 -p 1053 clusterip-nginx-ds.default.svc.cluster.local
  dig @127.0.0.1 -p 1053 _postgresql._tcp.postgres.data.svc.cluster.local SRV
  dig @::1 -p 1053 +tcp storefront.shop.svc.cluster.local AAAA
  dig @127.0.0.1 -p 1053 -x 10.96.0.10
Your own: `ringdns -conf FILE`. Ctrl-C ends it.
";

#[cfg(test)]
mod tests {
    use super::within_memory;

    #[test]
    fn the_manifests_limit_has_room_for_ten_shards() {
        let manifests = Some(170 << 20);
        assert_eq!(within_memory(64, manifests), 10);
        assert_eq!(within_memory(4, manifests), 4);
        assert_eq!(within_memory(64, None), 64);
        assert_eq!(within_memory(64, Some(1 << 20)), 1);
        assert_eq!(within_memory(64, Some(u64::MAX)), 64);
    }
}

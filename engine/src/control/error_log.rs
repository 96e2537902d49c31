//! The log lines of failed responses, single or consolidated as each block's `errors` says.
//!
//! Invariant: a tick writes a bounded number of lines, however many failures the shards report.

use std::pin::pin;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use domain::base::Rtype;
use domain::base::name::Name as DomainName;
use engine::answer::exit::ErrorReport;
use engine::config::Config;
use engine::limits::{ERROR_REPORTS_WAITING_MAX, LOG_LINES_WAITING_MAX};
use engine::metrics::Metrics;
use engine::plugin::ServerBlock;
use engine::plugin::errors::consolidator::{Consolidator, LineAction};
use engine::plugin::errors::{Errors, Level};
use tokio::time::timeout;

use super::TICK;
use super::lost::Lost;

/// Lines per tick. Further reports wait in the channel; those that find it full are counted.
const LINES_PER_TICK: usize = 100;
// The log's queue has room for two seconds of these lines.
const _: () =
    assert!(LOG_LINES_WAITING_MAX as u128 >= 2000 / TICK.as_millis() * LINES_PER_TICK as u128);

/// The shortest time between two log lines about lost reports.
const LOG_LOST_EVERY: Duration = Duration::from_secs(10);

/// The log of `errors`.
pub(crate) struct ErrorLog {
    reports: Receiver<ErrorReport>,
    /// By index of the Corefile's blocks.
    blocks: Vec<BlockErrors>,
    /// Failed responses that the shards could not report because the channel was full.
    lost: Lost,
}

/// The errors of one block.
struct BlockErrors {
    consolidator: Consolidator,
    /// The error if its last plugin passes a query on.
    end_of_chain: String,
}

impl ErrorLog {
    pub(crate) fn new(reports: Receiver<ErrorReport>, config: &Config) -> Self {
        Self { reports, blocks: of_blocks(config), lost: Lost::new(LOG_LOST_EVERY) }
    }

    /// Takes the next Corefile. Logs the counts of the last one first.
    pub(crate) fn reload(&mut self, config: &Config) {
        self.finish();
        self.blocks = of_blocks(config);
    }

    /// Logs the reports while something else is awaited.
    pub(crate) async fn beside<T>(
        &mut self,
        metrics: &Metrics,
        awaited: impl Future<Output = T>,
    ) -> T {
        let mut awaited = pin!(awaited);
        loop {
            match timeout(TICK, &mut awaited).await {
                Ok(outcome) => return outcome,
                Err(_) => self.tick(Instant::now(), metrics.error_lines_lost()),
            }
        }
    }

    /// Logs the reports since the last tick. `lost_count`: lost reports so far.
    pub(crate) fn tick(&mut self, now: Instant, lost_count: u64) {
        self.log_waiting(now);
        for (level, text) in self.blocks.iter_mut().flat_map(|block| block.consolidator.due(now)) {
            write(level, &text);
        }
        if let Some(count) = self.lost.take(lost_count, now) {
            let text = format!(
                "{count} more errors came too fast to be logged; `errors {{ consolidate }}` counts \
                 similar ones, and coredns_dns_responses_total counts all"
            );
            write(Level::Warning, &text);
        }
    }

    /// Logs the reports that wait, as many as fit in one tick. A report names its block by its
    /// index in the Corefile, so those that wait are logged before the next one is in force.
    pub(crate) fn log_waiting(&mut self, now: Instant) {
        let mut line_count = 0;
        for report in self.reports.try_iter().take(ERROR_REPORTS_WAITING_MAX) {
            // An index of the Corefile in force.
            let Some(block) = self.blocks.get_mut(report.logged_as) else { continue };
            let message = report.message.as_deref().unwrap_or(&block.end_of_chain);
            let LineAction::Logged(level) = block.consolidator.take(message, now) else { continue };
            write(level, &line(&report, message));
            line_count += 1;
            if line_count == LINES_PER_TICK {
                break;
            }
        }
    }

    /// Logs all counts.
    pub(crate) fn finish(&mut self) {
        for (level, text) in self.blocks.iter_mut().flat_map(|block| block.consolidator.rest()) {
            write(level, &text);
        }
    }
}

fn of_blocks(config: &Config) -> Vec<BlockErrors> {
    let of_block = |block: &ServerBlock| {
        let consolidator = block.line::<Errors>().map(|line| Consolidator::new(&line.consolidate));
        BlockErrors {
            consolidator: consolidator.unwrap_or_default(),
            end_of_chain: end_of_chain(block),
        }
    };
    config.blocks.iter().map(of_block).collect()
}

/// As in CoreDNS, the last plugin of the block says that there is none behind it.
fn end_of_chain(block: &ServerBlock) -> String {
    let by = block.last_plugin().map_or_else(String::new, |name| format!("plugin/{name}: "));
    format!("{by}no next plugin found")
}

fn line(report: &ErrorReport, message: &str) -> String {
    let name = DomainName::from_octets(report.name.bytes());
    let name = name.map_or_else(|_| "?".to_owned(), |name| name.fmt_with_dot().to_string());
    let (rcode, qtype) = (report.rcode as u16, Rtype::from_int(report.qtype));
    format!("{rcode} {name} {qtype}: {message}")
}

fn write(level: Level, text: &str) {
    match level {
        Level::Debug => tracing::debug!("plugin/errors: {text}"),
        Level::Info => tracing::info!("plugin/errors: {text}"),
        Level::Warning => tracing::warn!("plugin/errors: {text}"),
        Level::Error => tracing::error!("plugin/errors: {text}"),
    }
}

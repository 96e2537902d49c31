//! The way out: what is counted and logged of each response.

use crossbeam_channel::Sender;
use wire::header::Rcode;
use wire::name::Name;

use crate::metrics::ShardMetrics;

/// One failed answer, for the log of a block with `errors`.
#[derive(Clone)]
pub struct ErrorReport {
    /// Index of the block in the Corefile.
    pub logged_as: usize,
    pub rcode: Rcode,
    pub name: Name,
    pub qtype: u16,
    /// What went wrong with an upstream; `None` at the end of the plugin chain.
    pub message: Option<String>,
}

impl ErrorReport {
    /// A full queue loses the line, not the answer.
    pub fn send(self, log: &Sender<Self>, metrics: &ShardMetrics) {
        if log.try_send(self).is_err() {
            metrics.error_line_lost();
        }
    }
}

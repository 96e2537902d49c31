//! `ready`: an HTTP endpoint that reports whether every plugin is ready. `admin` serves it.

use std::future::ready;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::admin::Monitor;
use crate::corefile::report::Refusal;
use crate::corefile::statement::{Setting, Statement, sets};
use crate::corefile::value::http_address::{self, Host, HttpAddress};
use crate::corefile::word::quoted;
use crate::corefile::{Context, Place};

/// `ready`: 503 until every plugin of every block is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub address: HttpAddress,
    /// The position of its line.
    pub place: Place,
    pub monitor: Monitor,
}

const ADDRESS_DEFAULT: HttpAddress = HttpAddress { host: Host::Every, port: 8181 };

impl Plugin for Ready {
    fn name(&self) -> &'static str {
        "ready"
    }

    fn sees_queries(&self) -> bool {
        false
    }

    fn put<'a>(&'a self, _: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "ready [[HOST]:PORT] { monitor until-ready|continuously }";
pub(crate) const SETTINGS: &[Setting<Ready>] =
    &[sets("monitor", "monitor until-ready|continuously", monitor)];

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let address = http_address::argument(statement, ADDRESS_DEFAULT, USAGE, context);
    let place = context.place(statement.name.span);
    let mut ready = Ready { address, place, monitor: Monitor::UntilReady };
    statement.read_settings(SETTINGS, &mut ready, context);
    block.push(ready);
}

fn monitor(line: &Statement, ready: &mut Ready, context: &mut Context<'_>) {
    let Some([word]) = line.exactly("monitor until-ready|continuously", context) else { return };
    match word.text.as_str() {
        "until-ready" => ready.monitor = Monitor::UntilReady,
        "continuously" => ready.monitor = Monitor::Continuously,
        other => {
            let message = format!("monitor type '{}' not supported", quoted(other));
            let refusal = Refusal::new(message, "no such monitor")
                .help("write `until-ready` or `continuously`");
            context.refuse(word.span, refusal);
        }
    }
}

//! `health`: an HTTP endpoint that reports that the process is alive. `admin` serves it.

use std::future::ready;
use std::time::Duration;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::{Setting, Statement, sets};
use crate::corefile::value::duration;
use crate::corefile::value::http_address::{self, Host, HttpAddress};
use crate::corefile::word::quoted;
use crate::corefile::{Context, Place};

/// `health`: always 200. On termination the server continues to answer for `lameduck`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub address: HttpAddress,
    /// The position of its line.
    pub place: Place,
    pub lameduck: Duration,
}

const ADDRESS_DEFAULT: HttpAddress = HttpAddress { host: Host::Every, port: 8080 };

impl Plugin for Health {
    fn name(&self) -> &'static str {
        "health"
    }

    fn sees_queries(&self) -> bool {
        false
    }

    fn put<'a>(&'a self, _: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "health [[HOST]:PORT] { lameduck DURATION }";
pub(crate) const SETTINGS: &[Setting<Health>] = &[sets("lameduck", "lameduck DURATION", lameduck)];

/// Several `health` lines of a block are one: the last address and the last `lameduck` are used.
pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let place = context.place(statement.name.span);
    let default = Health { address: ADDRESS_DEFAULT, place, lameduck: Duration::ZERO };
    let health = block.line_or(default);
    let address = http_address::argument(statement, health.address.clone(), USAGE, context);
    health.address = address;
    statement.read_settings(SETTINGS, health, context);
}

fn lameduck(line: &Statement, health: &mut Health, context: &mut Context<'_>) {
    let Some([word]) = line.exactly("lameduck DURATION", context) else { return };
    // In CoreDNS the time is over at once.
    if word.text.strip_prefix('-').is_some_and(|text| duration::read(text).is_ok()) {
        health.lameduck = Duration::ZERO;
        let mistake = Mistake::warning(word.span, "'lameduck' is negative")
            .label("used as 0s")
            .help("write how long to answer after SIGTERM, such as 5s, or delete the line");
        return context.report(mistake);
    }
    match duration::read(&word.text) {
        Ok(lameduck) => health.lameduck = lameduck,
        Err(refusal) => {
            let message = format!(
                "unable to parse lameduck duration value: '{}' : {}",
                quoted(&word.text),
                refusal.message
            );
            context.refuse(word.span, Refusal { message, ..refusal });
        }
    }
}

//! `pprof`: an HTTP endpoint where Go's profiler would be. `admin` serves it, and it says what to
//! use instead.

use std::future::ready;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::report::Refusal;
use crate::corefile::statement::{Setting, Statement, sets};
use crate::corefile::value::http_address::{self, Host, HttpAddress};
use crate::corefile::value::number;
use crate::corefile::word::quoted;
use crate::corefile::{Context, Place};

/// `pprof [ADDRESS] { block [RATE] }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pprof {
    /// [localhost:6053]
    pub address: HttpAddress,
    pub place: Place,
}

impl Plugin for Pprof {
    fn name(&self) -> &'static str {
        "pprof"
    }

    fn sees_queries(&self) -> bool {
        false
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.warnings.push(format!(
            "plugin/pprof: {}: this is not a Go program: http://{}/debug/pprof/ says what to use \
             instead",
            self.place, self.address
        ));
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "pprof [ADDRESS] { … }";

pub(crate) const SETTINGS: &[Setting<Pprof>] = &[sets("block", BLOCK, block_rate)];

const BLOCK: &str = "block [RATE]";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let default = HttpAddress { host: Host::Name("localhost".to_owned()), port: 6053 };
    let address = http_address::argument(statement, default, USAGE, context);
    let mut pprof = Pprof { address, place: context.place(statement.name.span) };
    statement.read_settings(SETTINGS, &mut pprof, context);
    block.push(pprof);
}

/// Checked, and not used.
fn block_rate(line: &Statement, _: &mut Pprof, context: &mut Context<'_>) {
    match line.args.as_slice() {
        [] => {}
        [word] => {
            if number::read(word).is_err() {
                let text = quoted(&word.text);
                let message = format!("property 'block' invalid integer value '{text}'");
                let refusal = Refusal::new(message, "not a number");
                context.refuse(word.span, refusal.help(format!("usage: `{BLOCK}`")));
            }
        }
        [_, _, ..] => line.wrong_count(1, BLOCK, context),
    }
}

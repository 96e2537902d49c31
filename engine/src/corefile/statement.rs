//! One directive or option as written, and the tables that read a plugin's options.
//!
//! Invariant: every option of CoreDNS is a row of its plugin's table, built or not, so none is
//! ignored silently.

use super::Context;
use super::lexer::Token;
use super::report::Mistake;
use super::source::Span;
use super::word::{nearest, quoted};

/// A name, its arguments, and the contents of its braces.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) name: Token,
    pub(crate) args: Vec<Token>,
    pub(crate) body: Option<Body>,
    /// A brace on the same line that closes the braces around this statement.
    pub(crate) closed_by: Option<Span>,
}

#[derive(Clone)]
pub(crate) struct Body {
    pub(crate) open: Span,
    pub(crate) lines: Vec<Statement>,
}

/// One option of a plugin whose settings are a `D`.
pub(crate) struct Setting<D: 'static> {
    pub(crate) name: &'static str,
    /// Its syntax, for help.
    pub(crate) usage: &'static str,
    pub(crate) outcome: SettingOutcome<D>,
}

/// Reads one option into the plugin's settings.
pub(crate) type ReadSetting<D> = fn(&Statement, &mut D, &mut Context<'_>);

pub(crate) enum SettingOutcome<D: 'static> {
    /// Every occurrence is used.
    Adds(ReadSetting<D>),
    /// The last occurrence is used, as in CoreDNS; a second one gets a warning.
    Sets(ReadSetting<D>),
    /// CoreDNS has it, ringdns does not yet; what to do instead.
    NotBuilt(&'static str),
    /// CoreDNS had it; what to do instead, which `ringdns convert` does.
    Retired(&'static str),
}

/// An option of which every occurrence is used.
pub(crate) const fn adds<D>(
    name: &'static str,
    usage: &'static str,
    read: ReadSetting<D>,
) -> Setting<D> {
    Setting { name, usage, outcome: SettingOutcome::Adds(read) }
}

/// An option of which the last occurrence is used.
pub(crate) const fn sets<D>(
    name: &'static str,
    usage: &'static str,
    read: ReadSetting<D>,
) -> Setting<D> {
    Setting { name, usage, outcome: SettingOutcome::Sets(read) }
}

/// An option that CoreDNS has and ringdns does not; `instead` is what to do.
pub(crate) const fn not_built<D>(
    name: &'static str,
    usage: &'static str,
    instead: &'static str,
) -> Setting<D> {
    Setting { name, usage, outcome: SettingOutcome::NotBuilt(instead) }
}

/// An option that CoreDNS once had; `instead` is what to do.
pub(crate) const fn retired<D>(name: &'static str, instead: &'static str) -> Setting<D> {
    Setting { name, usage: name, outcome: SettingOutcome::Retired(instead) }
}

impl Statement {
    /// From the first argument to the last; the name if there are no arguments.
    pub(crate) fn args_span(&self, context: &Context<'_>) -> Span {
        match (self.args.first(), self.args.last()) {
            (Some(first), Some(last)) => first.span.to(last.span, context.sources),
            _ => self.name.span,
        }
    }

    /// The arguments if there are exactly `N`, otherwise a mistake is reported.
    pub(crate) fn exactly<const N: usize>(
        &self,
        usage: &str,
        context: &mut Context<'_>,
    ) -> Option<&[Token; N]> {
        match self.args.as_slice().try_into() {
            Ok(args) => Some(args),
            Err(_) => {
                self.wrong_count(N, usage, context);
                None
            }
        }
    }

    /// Reports a block as a mistake.
    pub(crate) fn takes_no_block(&self, usage: &str, context: &mut Context<'_>) {
        if let Some(body) = &self.body {
            let message = format!("'{}' takes no block", self.name.text);
            let mistake = Mistake::error(body.open, message).label("opened here");
            context.report(mistake.help(format!("usage: `{usage}`")));
        }
    }

    /// The arguments if there is at least one, otherwise a mistake is reported.
    pub(crate) fn at_least_one(&self, usage: &str, context: &mut Context<'_>) -> Option<&[Token]> {
        if self.args.is_empty() {
            self.wrong_count(1, usage, context);
            return None;
        }
        Some(&self.args)
    }

    /// Reports too few arguments, or more than `expected_max`.
    pub(crate) fn wrong_count(&self, expected_max: usize, usage: &str, context: &mut Context<'_>) {
        let (span, label) = match self.args.get(expected_max) {
            Some(surplus) => (surplus.span, "one too many"),
            None => {
                (self.args.last().unwrap_or(&self.name).span, "an argument is missing after this")
            }
        };
        let after = self.args.last().unwrap_or(&self.name);
        let message = format!(
            "Wrong argument count or unexpected line ending after '{}'",
            quoted(&after.text)
        );
        context
            .report(Mistake::error(span, message).label(label).help(format!("usage: `{usage}`")));
    }

    /// Reads the options between the braces with the plugin's table.
    pub(crate) fn read_settings<D>(
        &self,
        table: &[Setting<D>],
        draft: &mut D,
        context: &mut Context<'_>,
    ) {
        let unknown = |line: &Self, _: &mut D, context: &mut Context<'_>| {
            let plugin = context.plugin;
            context.mistakes.push_error(|| unknown_setting(line, table).of_plugin(plugin));
        };
        self.read_settings_or(table, unknown, draft, context);
    }

    /// The same for a plugin whose braces contain other lines too: `other` reads each line that is
    /// not an option.
    pub(crate) fn read_settings_or<D>(
        &self,
        table: &[Setting<D>],
        other: impl Fn(&Self, &mut D, &mut Context<'_>),
        draft: &mut D,
        context: &mut Context<'_>,
    ) {
        let mut seen: Vec<&Token> = Vec::new();
        for line in self.body.iter().flat_map(|body| &body.lines) {
            let Some(setting) = table.iter().find(|row| row.name == line.name.text) else {
                other(line, draft, context);
                continue;
            };
            line.takes_no_block(setting.usage, context);
            match setting.outcome {
                SettingOutcome::Adds(read) => read(line, draft, context),
                SettingOutcome::Sets(read) => {
                    match seen.iter().find(|token| token.text == setting.name) {
                        Some(first) => {
                            let message = format!("'{}' is set twice", setting.name);
                            let mistake = Mistake::warning(line.name.span, message)
                                .label("this one is used")
                                .also(first.span, "this one is ignored")
                                .help("delete one of the two");
                            context.report(mistake);
                        }
                        None => seen.push(&line.name),
                    }
                    read(line, draft, context);
                }
                SettingOutcome::NotBuilt(instead) => {
                    let message = format!("'{}' is known but not built yet", setting.name);
                    let mistake = Mistake::error(line.name.span, message)
                        .label("not in this version of ringdns");
                    context.report(mistake.help(instead));
                }
                SettingOutcome::Retired(instead) => {
                    let message = format!("unknown property '{}'", setting.name);
                    let mistake = Mistake::error(line.name.span, message)
                        .label("CoreDNS has retired this option");
                    context.report(mistake.help(format!("{instead}; `ringdns convert` does this")));
                }
            }
        }
    }
}

/// Warns of words that CoreDNS ignores silently.
pub(crate) fn warn_of_surplus(surplus: &[Token], usage: &str, context: &mut Context<'_>) {
    if let Some(word) = surplus.first() {
        let message = format!("'{}' is one word too many", quoted(&word.text));
        let mistake = Mistake::warning(word.span, message).label("ignored");
        context.report(mistake.help(format!("usage: `{usage}`")));
    }
}

/// The names of the options that work.
pub(crate) fn built_names<D>(table: &[Setting<D>]) -> Vec<&'static str> {
    let is_built = |row: &&Setting<D>| {
        matches!(row.outcome, SettingOutcome::Adds(_) | SettingOutcome::Sets(_))
    };
    table.iter().filter(is_built).map(|row| row.name).collect()
}

/// Reports a line whose first word is not an option, and suggests the nearest option.
pub(crate) fn unknown_setting<D>(line: &Statement, table: &[Setting<D>]) -> Mistake {
    let word = &line.name.text;
    let message = format!("unknown property '{}'", quoted(word));
    let mistake = Mistake::error(line.name.span, message).label("no option has this name");
    let meant = nearest(word, table.iter().map(|row| row.name));
    let meant = meant.and_then(|name| table.iter().find(|row| row.name == name));
    let help = match meant {
        Some(Setting { name, outcome: SettingOutcome::NotBuilt(_), .. }) => {
            format!("did you mean `{name}`? It is known but not built yet")
        }
        Some(Setting { name, outcome: SettingOutcome::Retired(instead), .. }) => {
            format!("did you mean `{name}`? {instead}")
        }
        Some(Setting { name, .. }) => format!("did you mean `{name}`?"),
        None => format!("the options are {}", built_names(table).join(", ")),
    };
    mistake.help(help)
}

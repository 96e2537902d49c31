//! An explanation as text and as JSON.
//!
//! Invariant: the names and the meaning of the JSON's fields never change; new ones may come after
//! them.

use std::fmt::Write as _;
use std::net::IpAddr;

use domain::base::iana::{Class, Rtype};
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt};
use domain::base::{Message, ParsedName};
use domain::rdata::AllRecordData;
use engine::answer::decision::{CacheOutcome, Decision, GateOutcome, TableOutcome};
use engine::client::ListenerId;
use engine::plan::Plan;
use engine::question::OwnedQuestion;
use engine::responder::explaining::{Explained, ExplainedOutcome};
use jiff::{Timestamp, Unit};
use k8s_sync::origin::ObjectFacts;
use serde::Serialize;

use crate::control::endpoints::zone_text;

/// What the command shows.
#[derive(Serialize)]
pub(super) struct ExplainReport {
    /// The namespace whose search path is followed.
    pub(super) namespace: Option<String>,
    /// The names of the search path that were asked for, in their order. Empty for a whole name.
    pub(super) search: Vec<SearchStep>,
    /// The name that has records, or the first.
    pub(super) explained: Explanation,
}

/// A name of a search path, and what came of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SearchStep {
    name: String,
    rcode: String,
    record_count: usize,
}

/// How one question is answered, and why.
#[derive(Serialize)]
pub(super) struct Explanation {
    name: String,
    r#type: String,
    from: IpAddr,
    steps: Vec<StepShape>,
    /// The response's; what happens instead, if there is no response.
    rcode: String,
    /// The answer section.
    records: Vec<String>,
    /// The authority section.
    authority: Vec<String>,
    objects: Vec<ObjectShape>,
    pub(super) reason: Option<String>,
}

/// What one step decided.
#[derive(Serialize)]
struct StepShape {
    /// The plugin's directive; `block` or `view` for the choice of a block.
    step: String,
    decision: String,
}

/// An object behind the records.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectShape {
    kind: &'static str,
    name: String,
    resource_version: Option<String>,
    created: Option<String>,
}

impl SearchStep {
    pub(super) fn of(explanation: &Explanation) -> Self {
        Self {
            name: explanation.name.clone(),
            rcode: explanation.rcode.clone(),
            record_count: explanation.records.len(),
        }
    }
}

impl ExplainReport {
    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).map_or_else(|_| "{}\n".to_owned(), |text| text + "\n")
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(namespace) = self.namespace.as_ref().filter(|_| !self.search.is_empty()) {
            let _ = writeln!(text, "search path of Namespace {namespace}:");
            let width = self.search.iter().map(|step| step.name.len()).max().unwrap_or_default();
            for (number, step) in self.search.iter().enumerate() {
                let SearchStep { name, rcode, record_count } = step;
                let number = number + 1;
                let _ = write!(text, "  {number}  {name:width$}  {rcode}");
                text.push_str(&match record_count {
                    0 if rcode == "NOERROR" => ", no records\n".to_owned(),
                    0 => "\n".to_owned(),
                    1 => ", 1 record\n".to_owned(),
                    count => format!(", {count} records\n"),
                });
            }
            text.push('\n');
        }
        self.explained.write(&mut text);
        text
    }
}

impl Explanation {
    pub(super) fn new(
        question: &OwnedQuestion,
        from: IpAddr,
        teller: &Teller<'_>,
        explained: &Explained,
    ) -> Self {
        let mut asked = question.clone();
        let steps = explained.decisions.iter().filter_map(|decision| {
            let step = teller.step(decision, &asked);
            if let Decision::Gate { question, .. } = decision {
                asked = question.clone();
            }
            step.map(|(step, decision)| StepShape { step, decision })
        });
        let mut explanation = Self {
            name: zone_text(&question.name),
            r#type: Rtype::from_int(question.qtype).to_string(),
            from,
            steps: steps.collect(),
            rcode: String::new(),
            records: Vec::new(),
            authority: Vec::new(),
            objects: Vec::new(),
            reason: None,
        };
        match &explained.outcome {
            ExplainedOutcome::Response(message) => explanation.read(message),
            ExplainedOutcome::Dropped => explanation.rcode = "no response".into(),
            ExplainedOutcome::UpstreamsNotAsked => {
                explanation.rcode = "upstreams were not asked".into();
            }
        }
        explanation
    }

    pub(super) fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    pub(super) fn set_objects(&mut self, objects: Vec<ObjectFacts>) {
        let shapes = objects.into_iter().map(|object| ObjectShape {
            kind: object.kind,
            name: object.key,
            resource_version: object.resource_version,
            created: object.created,
        });
        self.objects = shapes.collect();
    }

    fn read(&mut self, message: &[u8]) {
        let Ok(message) = Message::from_octets(message) else { return };
        self.rcode = message.header().rcode().to_string();
        type Data<'m> = AllRecordData<&'m [u8], ParsedName<&'m [u8]>>;
        if let Ok(section) = message.answer() {
            let records = section.limit_to::<Data<'_>>().filter_map(Result::ok);
            self.records = records.map(|record| shown(&record)).collect();
        }
        if let Ok(section) = message.authority() {
            let records = section.limit_to::<Data<'_>>().filter_map(Result::ok);
            self.authority = records.map(|record| shown(&record)).collect();
        }
    }

    /// The zone whose SOA goes with a denial.
    fn denied_by(&self) -> String {
        let soa = self.authority.iter().find(|record| record.contains(" SOA "));
        let zone = soa.filter(|_| self.records.is_empty()).and_then(|soa| soa.split(' ').next());
        zone.map_or_else(String::new, |zone| format!(", with the SOA of {zone}"))
    }

    fn write(&self, text: &mut String) {
        let _ = writeln!(text, "{} {}, asked from {}\n", self.name, self.r#type, self.from);
        let mut rows: Vec<(&str, String)> =
            self.steps.iter().map(|step| (step.step.as_str(), step.decision.clone())).collect();
        rows.push(("response", self.rcode.clone() + &self.denied_by()));
        rows.extend(self.records.iter().map(|record| ("", record.clone())));
        rows.extend(self.objects.iter().map(|object| ("object", object.line())));
        let head = if self.has_records() { "note" } else { "why" };
        rows.extend(self.reason.iter().map(|reason| (head, reason.clone())));
        let width = rows.iter().map(|(head, _)| head.len()).max().unwrap_or_default();
        for (head, line) in rows {
            let _ = writeln!(text, "  {head:width$}  {line}");
        }
    }
}

impl ObjectShape {
    fn line(&self) -> String {
        let mut line = format!("{} {}", self.kind, self.name);
        if let Some(version) = &self.resource_version {
            let _ = write!(line, ", resourceVersion {version}");
        }
        let created = self.created.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
        if let Some(created) = created {
            let minutes = Timestamp::now().since((Unit::Minute, created));
            let minutes = minutes.map_or(0, |span| span.get_minutes());
            let age = match minutes {
                ..120 => format!("{minutes} minutes"),
                120..2880 => format!("{} hours", minutes / 60),
                _ => format!("{} days", minutes / 60 / 24),
            };
            let _ = write!(line, ", {age} old");
        }
        line
    }
}

/// As in a zone file, on one line.
fn shown(record: &impl ZonefileFmt) -> String {
    record.display_zonefile(DisplayKind::Simple).to_string()
}

/// Says what decisions mean.
pub(super) struct Teller<'t> {
    /// By block of the Corefile.
    pub(super) places: &'t [String],
    pub(super) plan: &'t Plan,
    pub(super) listener: ListenerId,
}

impl Teller<'_> {
    /// The head and the text of a row. `asked`: the question before this step.
    fn step(&self, decision: &Decision, asked: &OwnedQuestion) -> Option<(String, String)> {
        let row = |step: &str, text: String| Some((step.to_owned(), text));
        match decision {
            Decision::View { block, takes } => {
                let view = self.plan.blocks.get(*block).and_then(|block| block.view.as_ref());
                let name = view.map_or("", |view| view.name.as_str());
                let does = if *takes { "takes" } else { "does not take" };
                row("view", format!("{name} {does} the query"))
            }
            Decision::Block { index, has_plugins } => {
                row("block", self.block(*index, *has_plugins))
            }
            Decision::Gate { plugin, outcome, question } => {
                row(plugin, gate(outcome, question, asked))
            }
            Decision::UnservedType { qtype, qclass } => {
                let (qtype, qclass) = (Rtype::from_int(*qtype), Class::from_int(*qclass));
                row("-", format!("class {qclass}, type {qtype}: no plugin answers it"))
            }
            Decision::Table { plugin, outcome, passes_on, .. } => {
                row(plugin, table(*outcome, *passes_on))
            }
            Decision::Cnames { target, goes_upstream } => {
                let target = target.as_deref().map_or_else(String::new, zone_text);
                row(
                    "",
                    match goes_upstream {
                        true => {
                            format!("its CNAME leads to {target}, which upstreams are asked for")
                        }
                        false => format!(
                            "its CNAME leads to {target}, which only this server is asked for"
                        ),
                    },
                )
            }
            Decision::NoAaaa => row("no_aaaa", "answers that there is no IPv6 address".into()),
            Decision::NoUpstreams => row(
                "forward",
                "there is no `forward` for the name, so the response is SERVFAIL unless another \
                 plugin answers"
                    .into(),
            ),
            Decision::Cache(outcome) => {
                let text = match outcome.as_ref()? {
                    CacheOutcome::Hit => "has the response",
                    CacheOutcome::HitAndRefresh => "has the response, and refreshes it",
                    CacheOutcome::Miss => "does not have the response",
                    CacheOutcome::Stale => "has an expired response, in case upstreams fail",
                    CacheOutcome::OwnProbe => "this is the server's own loop probe: refused",
                };
                row("cache", text.into())
            }
            Decision::Upstreams { name, forwards, .. } => {
                let settings = forwards.iter().filter_map(|slot| self.plan.forwards.get(slot.0));
                let lines = settings.map(|settings| {
                    let addresses = settings.upstreams.iter().map(|one| one.address.to_string());
                    addresses.collect::<Vec<_>>().join(", ")
                });
                let lines: Vec<_> = lines.collect();
                row("forward", format!("asks for {}: {}", zone_text(name), lines.join("; then ")))
            }
        }
    }

    fn block(&self, index: Option<usize>, has_plugins: bool) -> String {
        let address = self.plan.listeners.get(self.listener.0).and_then(|one| one.address);
        let address = address.map_or_else(String::new, |address| address.to_string());
        let origin = index.and_then(|index| self.plan.origins.get(index));
        let Some(origin) = origin else {
            return format!("no block at {address} takes the name: REFUSED");
        };
        let place = self.places.get(origin.index).cloned();
        let (zone, place) = (&origin.zone.text, place.unwrap_or_default());
        match has_plugins {
            true => format!("{zone} at {address} ({place}): the longest zone that the name is in"),
            false => format!("{zone} at {address} ({place}) has no plugin that answers: REFUSED"),
        }
    }
}

fn gate(outcome: &GateOutcome, question: &OwnedQuestion, asked: &OwnedQuestion) -> String {
    match outcome {
        GateOutcome::Passes if question.name != asked.name || question.qtype != asked.qtype => {
            let (name, qtype) = (zone_text(&question.name), Rtype::from_int(question.qtype));
            format!("asks for {name} {qtype} instead")
        }
        GateOutcome::Passes => "passes the query on".into(),
        GateOutcome::Answers => "answers".into(),
        GateOutcome::Drops => "drops the query: there is no response".into(),
        GateOutcome::Pursues => "looks other names up first, and answers with the result".into(),
        GateOutcome::AnswersLate => "answers after a delay".into(),
        GateOutcome::Fails(Some(reason)) => format!("fails: {reason}"),
        GateOutcome::Fails(None) => "fails".into(),
    }
}

fn table(outcome: TableOutcome, passes_on: bool) -> String {
    let has = match outcome {
        TableOutcome::Records => "has records",
        TableOutcome::Cnames => "has a CNAME",
        TableOutcome::PodName => "reads the pod's address from the name",
        TableOutcome::NoData => "has the name, but no records of this type",
        TableOutcome::NxDomain | TableOutcome::Unlisted => "does not have the name",
        TableOutcome::Referral => "has a delegation of the name",
        TableOutcome::Unread => "has not been read completely",
        TableOutcome::Outside => "does not serve the name's zone",
    };
    match (outcome, passes_on) {
        (TableOutcome::Outside, true) => format!("{has}, and passes the query on"),
        (_, true) => format!("{has}, and passes the query on: `fallthrough`"),
        (TableOutcome::Outside, false) => format!("{has}, and refuses: no plugin comes after it"),
        (TableOutcome::NxDomain | TableOutcome::Unlisted, false) => {
            format!("{has}, and decides: there is no `fallthrough` for it")
        }
        (_, false) => has.into(),
    }
}

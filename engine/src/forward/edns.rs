//! Whether one upstream supports EDNS, and which errors to queries with an OPT are believed.
//!
//! Servers older than EDNS, and firewalls, answer a query with an OPT by FORMERR, NOTIMP, SERVFAIL
//! or REFUSED, or not at all (RFC 2671, section 5.3; RFC 6891, section 7). A server that knows EDNS
//! puts an OPT into its response, so its SERVFAIL is about the name. Pure: no socket, no clock.
//! Invariant: only a response to a query without an OPT marks EDNS as missing.

use tokio::time::Instant;
use wire::header::Rcode;

use super::ability::Ability;
use crate::limits::EDNS_ERROR_BELIEVED_FOR;

pub(super) const NOERROR: u16 = Rcode::NoError as u16;
const FORMERR: u16 = Rcode::FormErr as u16;
const SERVFAIL: u16 = Rcode::ServFail as u16;
pub(super) const NXDOMAIN: u16 = Rcode::NxDomain as u16;
const NOTIMP: u16 = Rcode::NotImp as u16;
const REFUSED: u16 = Rcode::Refused as u16;
/// The EDNS version is not supported (RFC 6891, section 9). Ours is 0, the lowest.
const BADVERS: u16 = Rcode::BadVers as u16;

/// What one shard knows about an upstream's EDNS.
#[derive(Debug, Default)]
pub(super) struct Edns {
    pub(super) ability: Ability,
    /// Until then FORMERR and NOTIMP are not about EDNS: they also came for a query without an OPT.
    believed_until: Option<Instant>,
}

/// What to do with a response to a query with an OPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EdnsVerdict {
    Believed,
    /// The OPT may have caused it: send the query again without one.
    AskWithout,
}

/// What a response says about the OPT in its query.
enum OptSign {
    /// The upstream understood it.
    Fine,
    /// Perhaps the upstream did not understand it, even if the response has an OPT: some servers
    /// send the query back with only the header changed.
    Error,
    /// The upstream does not support version 0, the lowest there is.
    BadVersion,
    /// Perhaps the upstream did not understand it; as likely the name cannot be resolved.
    Ambiguous,
    Neutral,
}

impl OptSign {
    fn of(rcode: u16, has_opt: bool) -> Self {
        match rcode {
            BADVERS => Self::BadVersion,
            FORMERR | NOTIMP => Self::Error,
            NOERROR | NXDOMAIN => Self::Fine,
            _ if has_opt => Self::Fine,
            SERVFAIL | REFUSED => Self::Ambiguous,
            _ => Self::Neutral,
        }
    }
}

impl Edns {
    /// A response to a query with an OPT.
    pub(super) fn answered(&mut self, rcode: u16, has_opt: bool, now: Instant) -> EdnsVerdict {
        let is_believed = match OptSign::of(rcode, has_opt) {
            OptSign::Fine => {
                self.ability.worked(now);
                true
            }
            OptSign::Error if has_opt && self.ability.is_proven(now) => true,
            OptSign::Error | OptSign::BadVersion => {
                self.believed_until.is_some_and(|until| now < until)
            }
            OptSign::Ambiguous => self.ability.is_proven(now),
            OptSign::Neutral => true,
        };
        if is_believed { EdnsVerdict::Believed } else { EdnsVerdict::AskWithout }
    }

    /// A second response, to the same query without an OPT.
    pub(super) fn answered_without(&mut self, rcode: u16, now: Instant) {
        if matches!(rcode, NOERROR | NXDOMAIN) {
            self.ability.was_missed(now);
        } else if self.ability.is_proven(now) {
            self.believed_until = Some(now + EDNS_ERROR_BELIEVED_FOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::EdnsVerdict::{AskWithout, Believed};
    use super::*;

    const YXDOMAIN: u16 = 6;
    const OPT: bool = true;

    /// Responses a second apart: code, OPT, expected verdict, and the code of the second response
    /// without an OPT.
    fn check(answers: &[(u16, bool, EdnsVerdict, Option<u16>)]) -> Edns {
        let mut edns = Edns::default();
        let mut now = Instant::now();
        for (at, (rcode, has_opt, verdict, without)) in answers.iter().enumerate() {
            assert!(edns.ability.is_used(), "answer {at}");
            assert_eq!(edns.answered(*rcode, *has_opt, now), *verdict, "answer {at}");
            if let Some(without) = without {
                edns.answered_without(*without, now);
            }
            now += Duration::from_secs(1);
        }
        edns
    }

    #[test]
    fn an_error_that_disappears_without_the_opt_marks_edns_as_missing() {
        for rcode in [FORMERR, SERVFAIL, NOTIMP, REFUSED, BADVERS] {
            for without in [NOERROR, NXDOMAIN] {
                let has_opt = rcode == BADVERS;
                let edns = check(&[(rcode, has_opt, AskWithout, Some(without))]);
                assert!(edns.ability.is_missing(), "{rcode} {without}");
            }
            let edns = check(&[(rcode, false, AskWithout, Some(rcode))]);
            assert_eq!(edns.ability, Ability::Unknown);
        }
        assert!(check(&[(FORMERR, OPT, AskWithout, Some(NOERROR))]).ability.is_missing());
    }

    #[test]
    fn a_server_that_knows_edns_is_believed() {
        for rcode in [SERVFAIL, REFUSED] {
            check(&[(rcode, OPT, Believed, None), (rcode, OPT, Believed, None)]);
            for success in [NOERROR, NXDOMAIN] {
                check(&[(success, OPT, Believed, None), (rcode, false, Believed, None)]);
                // A server that ignores the OPT.
                check(&[(success, false, Believed, None), (rcode, false, Believed, None)]);
            }
        }
        for rcode in [FORMERR, NOTIMP] {
            check(&[(NOERROR, OPT, Believed, None), (rcode, OPT, Believed, None)]);
        }
        check(&[(YXDOMAIN, false, Believed, None), (SERVFAIL, false, AskWithout, None)]);
    }

    #[test]
    fn a_server_that_sometimes_omits_the_opt_is_sometimes_asked_twice() {
        let edns = check(&[
            (NOERROR, OPT, Believed, None),
            (FORMERR, false, AskWithout, Some(FORMERR)),
            (NOTIMP, false, Believed, None),
        ]);
        assert!(!edns.ability.is_missing());
        let mut answers = vec![(NOERROR, OPT, Believed, None)];
        answers.push((NOTIMP, false, AskWithout, Some(NOTIMP)));
        answers.extend([(NOERROR, OPT, Believed, None); 10]);
        // Another server behind the same address.
        answers.push((FORMERR, false, AskWithout, Some(NOERROR)));
        assert!(check(&answers).ability.is_missing());
    }
}

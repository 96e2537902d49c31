//! Whether one upstream can do with the OPT of our queries, and what answers to such queries are believed.
//!
//! Servers older than EDNS, and firewalls, say FORMERR, NOTIMP, SERVFAIL or REFUSED to a query with an OPT, or nothing (RFC 2671,
//! section 5.3; RFC 6891, section 7). A server that knows EDNS puts an OPT into its answer, so its SERVFAIL is about the name.
//! Pure: no socket, no clock.

use tokio::time::Instant;
use wire::header::Rcode;

use super::ability::Ability;
use crate::limits::EDNS_ERROR_BELIEVED_FOR;

const NOERROR: u16 = Rcode::NoError as u16;
const FORMERR: u16 = Rcode::FormErr as u16;
const SERVFAIL: u16 = Rcode::ServFail as u16;
const NXDOMAIN: u16 = Rcode::NxDomain as u16;
const NOTIMP: u16 = Rcode::NotImp as u16;
const REFUSED: u16 = Rcode::Refused as u16;
/// Of a version that is not known (RFC 6891, section 9), and there is none below ours.
const BADVERS: u16 = Rcode::BadVers as u16;

/// What one shard knows of an upstream's EDNS.
#[derive(Debug, Default)]
pub(super) struct Edns {
    pub(super) ability: Ability,
    /// Until then FORMERR and NOTIMP are not about EDNS: they came without an OPT, too.
    believed_until: Option<Instant>,
}

/// What becomes of an answer to a query with an OPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EdnsVerdict {
    Believed,
    /// The OPT may be the reason: the same question is to be asked without.
    AskWithout,
}

/// What an answer says of the OPT in its query.
enum Sign {
    Fine,
    /// Maybe that it is not understood. With an OPT, too: some servers send the query back with nothing changed but its header.
    Error,
    /// That its version is not, which there is nothing below.
    BadVersion,
    /// The same, but as likely that the name cannot be resolved.
    ForwardFailure,
    Nothing,
}

impl Sign {
    fn of(rcode: u16, has_opt: bool) -> Self {
        match rcode {
            BADVERS => Self::BadVersion,
            FORMERR | NOTIMP => Self::Error,
            NOERROR | NXDOMAIN => Self::Fine,
            _ if has_opt => Self::Fine,
            SERVFAIL | REFUSED => Self::ForwardFailure,
            _ => Self::Nothing,
        }
    }
}

impl Edns {
    /// An answer came to a query with an OPT.
    pub(super) fn answered(&mut self, rcode: u16, has_opt: bool, now: Instant) -> EdnsVerdict {
        let is_believed = match Sign::of(rcode, has_opt) {
            Sign::Fine => {
                self.ability.worked(now);
                true
            }
            Sign::Error if has_opt && self.ability.is_proven(now) => true,
            Sign::Error | Sign::BadVersion => self.believed_until.is_some_and(|until| now < until),
            Sign::ForwardFailure => self.ability.is_proven(now),
            Sign::Nothing => true,
        };
        if is_believed { EdnsVerdict::Believed } else { EdnsVerdict::AskWithout }
    }

    /// Another answer came, to the same question without an OPT.
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

    /// Answers with what becomes of them, each a second later than the one before, and what then comes without an OPT.
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
    fn an_error_that_is_gone_without_the_opt_is_remembered() {
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
                // It ignores the OPT.
                check(&[(success, false, Believed, None), (rcode, false, Believed, None)]);
            }
        }
        for rcode in [FORMERR, NOTIMP] {
            check(&[(NOERROR, OPT, Believed, None), (rcode, OPT, Believed, None)]);
        }
        check(&[(YXDOMAIN, false, Believed, None), (SERVFAIL, false, AskWithout, None)]);
    }

    #[test]
    fn one_that_forgets_it_at_times_is_asked_twice_at_times() {
        let edns = check(&[
            (NOERROR, OPT, Believed, None),
            (FORMERR, false, AskWithout, Some(FORMERR)),
            (NOTIMP, false, Believed, None),
        ]);
        assert!(!edns.ability.is_missing());
        let mut answers = vec![(NOERROR, OPT, Believed, None)];
        answers.push((NOTIMP, false, AskWithout, Some(NOTIMP)));
        answers.extend([(NOERROR, OPT, Believed, None); 10]);
        // Another of the servers behind the address.
        answers.push((FORMERR, false, AskWithout, Some(NOERROR)));
        assert!(check(&answers).ability.is_missing());
    }
}

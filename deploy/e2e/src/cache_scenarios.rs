//! Scenarios for a cache: its Corefile lines, and which response must come when. `timeline.rs`
//! defines the format of the steps.

use crate::timeline::Step;

/// A server block for the zone of this name below `example.`, and the queries sent to it.
pub struct Scenario {
    pub zone: &'static str,
    pub cache: &'static str,
    /// Options of `forward`.
    pub forward: &'static str,
    pub steps: &'static str,
}

/// The records of each scenario's zone.
const RECORDS: &str = "
a3 3 A 192.0.2.1
a3 3 A 192.0.2.2
a4 4 A 192.0.2.3
moved 3 A 192.0.2.4
zero 0 A 192.0.2.5
long 86400 A 192.0.2.6
text 30 TXT text
chain 5 CNAME a3.ZONE
lost 5 CNAME none.ZONE
bare 30 CNAME elsewhere.test.
mx 3 MX 10 mail.ZONE
mail 5 A 192.0.2.7
cut 30 NS ns.cut.ZONE
ns.cut 30 A 192.0.2.8
";

/// Owners with this many TXT records of 50 bytes: more than 512 bytes, and more than 1232.
const LARGE: [(&str, usize); 2] = [("big", 12), ("wide", 40)];

pub static SCENARIOS: [Scenario; 19] = [
    Scenario {
        zone: "aged",
        cache: "cache {\nsuccess 9984 3600 0\ndenial 9984 1800 0\n}",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 3 asked 1
            1.5 a3 A            NOERROR 2 asked 1
            2.5 a3 A            NOERROR 1 asked 1
            3.5 a3 A            NOERROR 3 asked 2
            0.0 none A          NXDOMAIN 3 asked 1
            1.5 none A          NXDOMAIN 2 asked 1
            3.5 none A          NXDOMAIN 3 asked 2
            0.0 text A          NOERROR 3 asked 1
            1.5 text A          NOERROR 2 asked 1
            3.5 text A          NOERROR 3 asked 2
            0.0 zero A          NOERROR 0 asked 1
            0.5 zero A          NOERROR 0 asked 2
            0.0 long A          NOERROR 3600 asked 1
            2.5 long A          NOERROR 3598 asked 1
            0.0 chain A         NOERROR 3,5 asked 1 ~own_ttl
            1.5 chain A         NOERROR 2,4 asked 1 ~own_ttl
            3.5 chain A         NOERROR 3,5 asked 2 ~own_ttl
            0.0 mx MX           NOERROR 3 asked 1 ~own_ttl
            1.5 mx MX           NOERROR 2 asked 1 ~own_ttl
            0.0 lost A          NXDOMAIN 3 asked 1 ~lost_alias
            1.5 lost A          NXDOMAIN 2 asked 1 ~lost_alias
            0.0 cut A           NOERROR 5 asked 1
            1.5 cut A           NOERROR 4 asked 1
            0.0 bare A          NOERROR 5 asked 1 ~unkept_ttl
            0.5 bare A          NOERROR 5 asked 2 ~unkept_ttl
        ",
    },
    Scenario {
        zone: "plain",
        cache: "cache",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 5 asked 1
            3.5 a3 A            NOERROR 2 asked 1
            5.5 a3 A            NOERROR 5 asked 2
            0.0 none A          NXDOMAIN 5 asked 1
            3.5 none A          NXDOMAIN 2 asked 1
            5.5 none A          NXDOMAIN 5 asked 2
            0.0 zero A          NOERROR 5 asked 1
            3.5 zero A          NOERROR 2 asked 1
            0.0 long A          NOERROR 3600 asked 1
        ",
    },
    Scenario {
        zone: "capped",
        cache: "cache 2",
        forward: "",
        steps: "
            0.0 long A          NOERROR 2 asked 1
            1.5 long A          NOERROR 1 asked 1
            2.5 long A          NOERROR 2 asked 2
            0.0 none A          NXDOMAIN 2 asked 1
            1.5 none A          NXDOMAIN 1 asked 1
            2.5 none A          NXDOMAIN 2 asked 2
        ",
    },
    Scenario {
        zone: "split",
        cache: "cache {\nsuccess 9984 4 2\ndenial 9984 2 1\n}",
        forward: "",
        steps: "
            0.0 long A          NOERROR 4 asked 1
            0.0 zero A          NOERROR 2 asked 1
            1.5 zero A          NOERROR 1 asked 1
            2.5 zero A          NOERROR 2 asked 2
            0.0 none A          NXDOMAIN 2 asked 1
            2.5 none A          NXDOMAIN 2 asked 2
        ",
    },
    Scenario {
        zone: "kept",
        cache: "cache {\nsuccess 9984 3600 0\ndenial 9984 1800 0\nkeepttl\n}",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 3 asked 1
            2.5 a3 A            NOERROR 3 asked 1
            3.5 a3 A            NOERROR 3 asked 2
            0.0 none A          NXDOMAIN 3 asked 1
            1.5 none A          NXDOMAIN 3 asked 1
        ",
    },
    Scenario {
        zone: "keys",
        cache: "cache",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 5 asked 1
            0.5 a3 A +do        NOERROR 5 asked 2
            1.5 a3 A +ad        NOERROR 4 asked 2
            1.8 A3 A +edns      NOERROR 4 asked 2
            2.5 a3 A +tcp       NOERROR 3 asked 2
            2.8 a3 A +do +tcp   NOERROR 3 asked 2
            3.5 a3 AAAA         NOERROR 5 asked 3
            0.0 zero A +cd      NOERROR 5 CD asked 1 ~checking_disabled
            0.5 zero A +cd      NOERROR 5 CD asked 1
            1.0 zero A          NOERROR 5 asked 2
            1.5 zero A +do +cd  NOERROR 5 CD asked 3 ~checking_disabled
            0.0 big TXT +tcp    NOERROR 30 asked 1
            1.5 big TXT         NOERROR 29 TC asked 1
            2.5 big TXT +edns   NOERROR 28 asked 1
            0.0 Wide TXT        NOERROR 30 TC asked 2 ~cut_answer
            1.5 wide TXT +edns  NOERROR 29 TC asked 2 ~cut_answer
            2.5 wide TXT +tcp   NOERROR 28 asked 2 ~cut_answer
        ",
    },
    Scenario {
        zone: "passed",
        cache: "cache",
        forward: "",
        steps: "
            0.0 upstream refused
            0.2 a3 A            REFUSED asked 1
            0.7 a3 A            REFUSED asked 2
            1.0 upstream empty
            1.2 long A          NOERROR asked 1
            1.7 long A          NOERROR asked 1
            2.0 upstream nxdomain
            2.2 zero A          NXDOMAIN asked 1
            2.7 zero A          NXDOMAIN asked 2
            3.0 upstream notimp
            3.2 text TXT        NOTIMP asked 1
            3.7 text TXT        NOTIMP asked 1
        ",
    },
    Scenario {
        zone: "failed",
        cache: "cache {\nsuccess 9984 3600 0\ndenial 9984 1800 0\nservfail 2s\n}",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 3 asked 1
            0.5 upstream servfail
            0.7 long A          SERVFAIL asked 1
            1.7 long A          SERVFAIL asked 1
            3.2 long A          SERVFAIL asked 2
            2.5 a3 A            NOERROR 1 asked 1
            3.5 a3 A            SERVFAIL asked 2
            4.0 upstream honest
            4.2 long A          SERVFAIL asked 2
            5.7 long A          NOERROR 3600 asked 3
        ",
    },
    Scenario {
        zone: "unfailed",
        cache: "cache {\nservfail 0s\n}",
        forward: "",
        steps: "
            0.0 upstream servfail
            0.2 a3 A            SERVFAIL asked 1
            0.7 a3 A            SERVFAIL asked 2
        ",
    },
    Scenario {
        zone: "silent",
        cache: "cache {\nservfail 2s\n}",
        forward: "read_timeout 300ms\nmax_connect_attempts 1",
        steps: "
            0.0 upstream silent
            0.2 a3 A            SERVFAIL asked 1 waited
            1.2 a3 A            SERVFAIL asked 1
            1.5 upstream honest
            3.2 a3 A            NOERROR 5 asked 2
        ",
    },
    Scenario {
        zone: "stale",
        cache: "cache {\nsuccess 9984 3600 0\ndenial 9984 1800 0\nservfail 1s\nserve_stale\n}",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 3 asked 1
            0.0 none A          NXDOMAIN 3 asked 1
            3.0 upstream servfail
            3.5 a3 A            NOERROR 0 asked 2
            3.5 none A          NXDOMAIN 0 asked 2
            4.0 a3 A            NOERROR 0 asked 2 ~failure_pause
            5.0 upstream honest
            5.2 a3 A            NOERROR 0 asked 3 ~failure_pause
            5.7 a3 A            NOERROR 3 asked 3 ~failure_pause
            5.2 none A          NXDOMAIN 0 asked 3
            5.7 none A          NXDOMAIN 3 asked 3
        ",
    },
    Scenario {
        zone: "over",
        cache: "cache {\nsuccess 9984 3600 0\ndenial 9984 1800 0\n\
                serve_stale 2s immediate 7s 1s\n}",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 3 asked 1
            3.0 upstream servfail
            3.5 a3 A            NOERROR 7 asked 2
            4.0 a3 A            NOERROR 7 asked 2
            4.8 a3 A            NOERROR 7 asked 3
            5.5 a3 A            SERVFAIL asked 4
        ",
    },
    Scenario {
        zone: "verified",
        cache: "cache {\nsuccess 9984 3600 0\ndenial 9984 1800 0\nservfail 1s\n\
                serve_stale 1h verify\n}",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 3 asked 1
            0.0 moved A         NOERROR 3 asked 1
            3.0 upstream servfail
            3.5 a3 A            NOERROR 0 asked 2
            4.0 a3 A            NOERROR 0 asked 2 ~failure_pause
            4.3 upstream nxdomain
            4.4 moved A         NXDOMAIN asked 2
            5.0 upstream honest
            5.2 a3 A            NOERROR 3 asked 3 ~failure_pause
            5.7 a3 A            NOERROR 3 asked 3 ~failure_pause
        ",
    },
    Scenario {
        zone: "hurried",
        cache: "cache {\nsuccess 9984 3600 0\ndenial 9984 1800 0\nserve_stale 1h verify 200ms\n}",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 3 asked 1
            3.0 upstream late
            3.5 a3 A            NOERROR 0 asked 2 waited
            4.5 a3 A            NOERROR 3 asked 2
            5.0 upstream honest
            7.5 a3 A            NOERROR 3 asked 3
        ",
    },
    Scenario {
        zone: "positive",
        cache: "cache {\nsuccess 9984 3600 0\ndenial 9984 1800 0\nserve_stale\n\
                serve_stale_policy prefer_positive\n}",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 3 asked 1
            3.0 upstream nxdomain
            3.5 a3 A            NOERROR 0 asked 2
            4.0 a3 A            NOERROR 0 asked 2 ~failure_pause
        ",
    },
    Scenario {
        zone: "ahead",
        cache: "cache {\nsuccess 9984 3600 0\ndenial 9984 1800 0\nprefetch 2 1m 50%\n}",
        forward: "",
        steps: "
            0.0 a4 A            NOERROR 4 asked 1
            0.5 a4 A            NOERROR 4 asked 1
            1.5 a4 A            NOERROR 3 asked 1
            2.5 a4 A            NOERROR 2 asked 2
            3.0 a4 A            NOERROR 4 asked 2
            5.2 a4 A            NOERROR 2 asked 3
            5.7 a4 A            NOERROR 4 asked 3
            0.0 long A          NOERROR 3600 asked 1
            0.5 long A          NOERROR 3600 asked 1
            1.5 long A          NOERROR 3599 asked 1
        ",
    },
    Scenario {
        zone: "disabled",
        cache: "cache {\ndisable success\n}",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 3 asked 1 ~unkept_ttl
            0.5 a3 A            NOERROR 3 asked 2 ~unkept_ttl
            0.0 none A          NXDOMAIN 5 asked 1
            0.5 none A          NXDOMAIN 5 asked 1
        ",
    },
    Scenario {
        zone: "undenied",
        cache: "cache {\ndisable denial none.undenied.example\n}",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 5 asked 1
            0.5 a3 A            NOERROR 5 asked 1
            0.0 none A          NXDOMAIN 3 asked 1 ~unkept_ttl
            0.5 none A          NXDOMAIN 3 asked 2 ~unkept_ttl
            0.0 text A          NOERROR 5 asked 1
            0.5 text A          NOERROR 5 asked 1
        ",
    },
    Scenario {
        zone: "partly",
        cache: "cache 30 a3.partly.example",
        forward: "",
        steps: "
            0.0 a3 A            NOERROR 5 asked 1
            0.5 a3 A            NOERROR 5 asked 1
            0.0 zero A          NOERROR 0 asked 1
            0.5 zero A          NOERROR 0 asked 2
        ",
    },
];

impl Scenario {
    pub fn name(&self) -> String {
        format!("{}.example.", self.zone)
    }

    pub fn steps(&self) -> Vec<Step> {
        Step::parse(self.steps, &self.name())
    }
}

/// The records of `example.` that the scenarios use.
pub fn zone_file() -> String {
    let mut text =
        "@ 4 SOA ns hostmaster 1 3600 600 86400 3\n@ 300 NS ns\nns 300 A 127.0.0.1\n".to_owned();
    for Scenario { zone, .. } in &SCENARIOS {
        for (owner, data) in RECORDS.lines().filter_map(|line| line.split_once(' ')) {
            text += &format!("{owner}.{zone} {}\n", data.replace("ZONE", zone));
        }
        for (owner, count) in LARGE {
            for index in 0..count {
                text += &format!("{owner}.{zone} 30 TXT \"{index:050}\"\n");
            }
        }
    }
    text
}

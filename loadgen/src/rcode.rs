//! The rcodes of responses: their names, and the classes by which latencies are kept.

/// Latencies are kept separately for these four classes of rcode.
pub const RCODE_CLASSES: [&str; 4] = ["NOERROR", "NXDOMAIN", "SERVFAIL", "other"];

/// Names of the sixteen rcodes as dnsperf prints them.
pub const RCODE_NAMES: [&str; 16] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
    "NXRRSET", "NOTAUTH", "NOTZONE", "rcode11", "rcode12", "rcode13", "rcode14", "rcode15",
];

pub fn rcode_class(rcode: u8) -> usize {
    match rcode {
        0 => 0,
        3 => 1,
        2 => 2,
        _ => 3,
    }
}

//! The layout of a label set's numbers, by which shards write and scrapes read.
//!
//! Pure index arithmetic over tables of the types, codes, plugins and bucket bounds that CoreDNS
//! 1.15.0 exports. A new type, code, plugin or bound is a row.
//! Invariant: for any input, every function here returns less than `CELL_COUNT`.

use wire::header::Rcode;

use super::answerer::{Answerer, PLUGINS};
use crate::client::{Family, Transport};

/// The types with a series of their own. All others count as `OTHER_TYPE`.
const QTYPES: [(u16, &str); 19] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (43, "DS"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (50, "NSEC3"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
];
const OTHER_TYPE: &str = "other";
const QTYPE_COUNT: usize = QTYPES.len() + 1;

/// By type number: its row in `QTYPES`, or one past the last. No type of the table is above 255.
const QTYPE_ROWS: [u8; 256] = {
    let mut rows = [QTYPES.len() as u8; 256];
    let mut row = 0;
    while row < QTYPES.len() {
        rows[QTYPES[row].0 as usize] = row as u8;
        row += 1;
    }
    rows
};

const TRANSPORTS: [(Transport, &str); 2] = [(Transport::Udp, "udp"), (Transport::Tcp, "tcp")];
const FAMILIES: [(Family, &str); 2] = [(Family::V4, "1"), (Family::V6, "2")];

/// Upper bounds of the size buckets, in bytes.
pub(super) const SIZE_BOUNDS: [u16; 14] =
    [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];
/// The last bucket is for sizes above every bound.
const SIZE_BUCKET_COUNT: usize = SIZE_BOUNDS.len() + 1;
/// The sum of the sizes, after the buckets.
pub(super) const SIZE_SUM: usize = SIZE_BUCKET_COUNT;
const SIZE_CELLS: usize = SIZE_SUM + 1;

/// The first bound of CoreDNS's duration histogram. Each of the 16 bounds is twice the one before.
const DURATION_FIRST_NS: u64 = 250_000;
/// The first bound of the fine histogram. CoreDNS's first bucket would hold every response of this
/// server.
const FINE_DURATION_FIRST_NS: u64 = 1_000;
pub(super) const DURATION_BOUND_COUNT: usize = 16;
pub(super) const FINE_BUCKET_COUNT: usize = DURATION_BOUND_COUNT + 1;

/// The schema of the native duration histogram: 2^2 buckets per doubling (Prometheus's native
/// histograms, "Schema").
pub(super) const NATIVE_SCHEMA: i32 = 2;
/// Durations up to this, about a microsecond, count as zero.
pub(super) const NATIVE_ZERO_THRESHOLD_SECS: f64 = 1.0 / (1 << 20) as f64;
/// The first bucket ends at 2^(FIRST / 4) seconds, one step above the threshold.
pub(super) const NATIVE_FIRST: i32 = -20 * 4 + 1;
/// The last bucket ends at 16 s and also holds longer durations. There are none: upstreams have
/// less time.
const NATIVE_LAST: i32 = 4 * 4;
/// The zero bucket comes before all others.
pub(super) const NATIVE_BUCKET_COUNT: usize = 1 + (NATIVE_LAST - NATIVE_FIRST + 1) as usize;

const REQUESTS: usize = 0;
pub(super) const DNSSEC_OK: usize = REQUESTS + TRANSPORTS.len() * FAMILIES.len() * QTYPE_COUNT;
pub(super) const DURATION: usize = DNSSEC_OK + 1;
pub(super) const FINE_DURATION: usize = DURATION + DURATION_BOUND_COUNT + 1;
pub(super) const DURATION_SUM: usize = FINE_DURATION + FINE_BUCKET_COUNT;
pub(super) const NATIVE_DURATION: usize = DURATION_SUM + 1;
const QUERY_SIZES: usize = NATIVE_DURATION + NATIVE_BUCKET_COUNT;
const REPLY_SIZES: usize = QUERY_SIZES + TRANSPORTS.len() * SIZE_CELLS;
const RESPONSES: usize = REPLY_SIZES + TRANSPORTS.len() * SIZE_CELLS;

/// Numbers in a label set.
pub(super) const CELL_COUNT: usize = RESPONSES + Rcode::ALL.len() * PLUGINS.len();

#[inline]
pub(super) fn request(transport: Transport, family: Family, qtype: u16) -> usize {
    let row = qtype_row(qtype);
    (transport_row(transport) * FAMILIES.len() + family_row(family)) * QTYPE_COUNT + row
}

/// The value of the label `proto`.
pub(super) fn proto(transport: Transport) -> &'static str {
    TRANSPORTS[transport_row(transport)].1
}

/// The values of the label `type`.
pub(super) fn qtype_labels() -> impl Iterator<Item = &'static str> {
    QTYPES.iter().map(|row| row.1).chain([OTHER_TYPE])
}

/// The one of a type, by index.
#[inline]
pub(super) fn qtype_row(qtype: u16) -> usize {
    QTYPE_ROWS.get(usize::from(qtype)).map_or(QTYPES.len(), |row| usize::from(*row))
}

/// Every request counter with its labels: `proto`, `family`, `type`.
pub(super) fn requests() -> impl Iterator<Item = (usize, [&'static str; 3])> {
    (REQUESTS..DNSSEC_OK).map(|at| {
        let (rest, qtype) = (at / QTYPE_COUNT, at % QTYPE_COUNT);
        let (transport, family) = (rest / FAMILIES.len(), rest % FAMILIES.len());
        let qtype = QTYPES.get(qtype).map_or(OTHER_TYPE, |row| row.1);
        (at, [TRANSPORTS[transport].1, FAMILIES[family].1, qtype])
    })
}

/// The first bucket of the query sizes.
#[inline]
pub(super) fn query_sizes(transport: Transport) -> usize {
    QUERY_SIZES + transport_row(transport) * SIZE_CELLS
}

/// The first bucket of the response sizes.
#[inline]
pub(super) fn reply_sizes(transport: Transport) -> usize {
    REPLY_SIZES + transport_row(transport) * SIZE_CELLS
}

/// The transports with their label `proto`.
pub(super) fn transports() -> impl Iterator<Item = (Transport, &'static str)> {
    TRANSPORTS.into_iter()
}

/// The first bucket whose bound is at least `len`. Most messages take the first branch. In the
/// second the bounds are 2^9 − 1, 2^10 − 1, 2^11 − 1 and 2^12 − 1, so the number of binary digits
/// selects the bucket.
#[inline]
pub(super) fn size_bucket(len: usize) -> usize {
    match len {
        // A hundredth, rounded up: 656 / 2^16 is near enough to 1 / 100 for numbers this small.
        0..=400 => ((len + 99) * 656) >> 16,
        401..=4095 => (usize::BITS - len.leading_zeros()) as usize - 4,
        _ => 9 + SIZE_BOUNDS[9..].partition_point(|bound| usize::from(*bound) < len),
    }
}

/// CoreDNS's buckets of durations.
#[inline]
pub(super) fn duration_bucket(duration_ns: u64) -> usize {
    doubling_bucket(duration_ns, DURATION_FIRST_NS)
}

/// Our own finer buckets of durations.
#[inline]
pub(super) fn fine_duration_bucket(duration_ns: u64) -> usize {
    doubling_bucket(duration_ns, FINE_DURATION_FIRST_NS)
}

/// The native histogram's bucket: 0 for zero, then buckets that end at 2^(n / 4) seconds,
/// inclusive.
pub(super) fn native_duration_bucket(duration_ns: u64) -> usize {
    let duration_secs = duration_ns as f64 / 1e9;
    if duration_secs <= NATIVE_ZERO_THRESHOLD_SECS {
        return 0;
    }
    let index = (duration_secs.log2() * f64::from(1 << NATIVE_SCHEMA)).ceil() as i32;
    1 + (index.clamp(NATIVE_FIRST, NATIVE_LAST) - NATIVE_FIRST) as usize
}

/// The first bucket whose bound is at least `value`, where bound n is `first` × 2^n. `value`
/// exceeds `first` × 2^n if and only if (`value` − 1) / `first` has more than n binary digits.
#[inline]
fn doubling_bucket(value: u64, first: u64) -> usize {
    let quotient = value.saturating_sub(1) / first;
    let digits = (u64::BITS - quotient.leading_zeros()) as usize;
    digits.min(DURATION_BOUND_COUNT)
}

/// The bounds of `duration_bucket` in seconds.
pub(super) fn duration_bounds() -> [f64; DURATION_BOUND_COUNT] {
    std::array::from_fn(|n| (DURATION_FIRST_NS << n) as f64 / 1e9)
}

/// The bounds of `fine_duration_bucket` in seconds.
pub(super) fn fine_duration_bounds() -> [f64; DURATION_BOUND_COUNT] {
    std::array::from_fn(|n| (FINE_DURATION_FIRST_NS << n) as f64 / 1e9)
}

#[inline]
pub(super) fn response(rcode: Rcode, plugin: Answerer) -> usize {
    RESPONSES + rcode_row(rcode) * PLUGINS.len() + plugin.row()
}

/// Every response counter with its labels: `rcode`, `plugin`.
pub(super) fn responses() -> impl Iterator<Item = (usize, [&'static str; 2])> {
    (RESPONSES..CELL_COUNT).map(|at| {
        let (rcode, plugin) = ((at - RESPONSES) / PLUGINS.len(), (at - RESPONSES) % PLUGINS.len());
        (at, [Rcode::ALL[rcode].mnemonic(), PLUGINS[plugin]])
    })
}

fn transport_row(transport: Transport) -> usize {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
    }
}

fn family_row(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// The code's index in `Rcode::ALL`.
fn rcode_row(rcode: Rcode) -> usize {
    match rcode {
        Rcode::NoError => 0,
        Rcode::FormErr => 1,
        Rcode::ServFail => 2,
        Rcode::NxDomain => 3,
        Rcode::NotImp => 4,
        Rcode::Refused => 5,
        Rcode::YxDomain => 6,
        Rcode::YxRrset => 7,
        Rcode::NxRrset => 8,
        Rcode::NotAuth => 9,
        Rcode::NotZone => 10,
        Rcode::BadVers => 11,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_in_the_first_bucket_that_holds_it() {
        for len in 0..=65_535 {
            let expected = SIZE_BOUNDS.iter().take_while(|bound| usize::from(**bound) < len);
            assert_eq!(size_bucket(len), expected.count(), "{len}");
        }
    }

    #[test]
    fn durations_are_in_the_first_bucket_that_holds_them() {
        let check = |duration_ns: u64| {
            for (first, bucket) in [
                (DURATION_FIRST_NS, duration_bucket(duration_ns)),
                (FINE_DURATION_FIRST_NS, fine_duration_bucket(duration_ns)),
            ] {
                let expected = (0..DURATION_BOUND_COUNT).take_while(|n| first << n < duration_ns);
                assert_eq!(bucket, expected.count(), "{duration_ns} ns");
            }
        };
        for n in 0..DURATION_BOUND_COUNT {
            for first in [DURATION_FIRST_NS, FINE_DURATION_FIRST_NS] {
                for duration_ns in [(first << n) - 1, first << n, (first << n) + 1] {
                    check(duration_ns);
                }
            }
        }
        check(0);
        check(u64::MAX);
    }

    #[test]
    fn native_buckets_end_at_powers_of_the_fourth_root_of_two() {
        for duration_ns in (0..64).flat_map(|n| [(1_u64 << n) - 1, 1 << n, (1 << n) + 1]) {
            let bucket = native_duration_bucket(duration_ns);
            let duration_secs = duration_ns as f64 / 1e9;
            let end = |bucket: usize| match bucket {
                0 => NATIVE_ZERO_THRESHOLD_SECS,
                _ => (f64::from(NATIVE_FIRST + bucket as i32 - 1) / 4.0).exp2(),
            };
            assert!(bucket < NATIVE_BUCKET_COUNT);
            let is_last = bucket == NATIVE_BUCKET_COUNT - 1;
            assert!(is_last || duration_secs <= end(bucket), "{duration_ns} ns in {bucket}");
            assert!(bucket == 0 || duration_secs > end(bucket - 1), "{duration_ns} ns in {bucket}");
        }
        assert_eq!(native_duration_bucket(u64::MAX), NATIVE_BUCKET_COUNT - 1);
        assert_eq!(NATIVE_FIRST, -20 * (1 << NATIVE_SCHEMA) + 1);
    }

    #[test]
    fn types_codes_and_plugins_round_trip() {
        for qtype in 0..=u16::MAX {
            let row = QTYPES.iter().find(|row| row.0 == qtype);
            let label = row.map_or(OTHER_TYPE, |row| row.1);
            for (transport, proto) in TRANSPORTS {
                for (family, number) in FAMILIES {
                    let at = request(transport, family, qtype);
                    let (found, labels) = requests().nth(at).unwrap();
                    assert_eq!((found, labels), (at, [proto, number, label]));
                }
            }
        }
        for rcode in Rcode::ALL {
            let plugins = PLUGINS[1..].iter().map(|name| (Answerer::plugin(name), *name));
            for (plugin, label) in plugins.chain([(Answerer::SERVER, "")]) {
                let at = response(rcode, plugin);
                let (found, labels) = responses().nth(at - RESPONSES).unwrap();
                assert_eq!((found, labels), (at, [rcode.mnemonic(), label]));
            }
        }
    }
}

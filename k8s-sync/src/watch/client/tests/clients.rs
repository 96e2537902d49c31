//! Clients as they are made: their limits.

use super::*;

#[test]
fn qps_and_burst_make_a_rate() {
    let check = |qps, burst, expected: Option<(u64, u64)>| {
        let server = ApiServer { qps, burst, ..ApiServer::default() };
        let expected = expected.map(|(count, ms)| (count, Duration::from_millis(ms)));
        assert_eq!(rate_limit(&server), expected, "{qps:?} {burst:?}");
    };
    check(None, None, None);
    check(Some(0), Some(0), None);
    check(Some(50), Some(100), Some((100, 2000)));
    check(Some(50), None, Some((10, 200)));
    check(None, Some(20), Some((20, 4000)));
}

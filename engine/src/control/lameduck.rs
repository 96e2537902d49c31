//! What a shutdown waits for while the server still answers: the snapshots and `lameduck`.
//!
//! Invariant: another signal that ends the process ends every wait.

use std::time::Duration;

use tokio::time::sleep;

use super::signals::End;

/// Waits for the snapshots and for `lameduck`, but not beyond another signal (`end`).
pub(crate) async fn wait(
    lameduck: Duration,
    snapshots: impl Future<Output = ()>,
    end: impl Future<Output = End>,
) {
    let lameduck = async {
        if !lameduck.is_zero() {
            tracing::info!("plugin/health: Going into lameduck mode for {lameduck:?}");
            sleep(lameduck).await;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(snapshots, lameduck) } => {}
        end = end => tracing::info!("{}; not waiting any longer", end.message()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// Whether the wait ends: without a signal if `end` is `None`.
    async fn check(
        lameduck: Duration,
        snapshots: impl Future<Output = ()>,
        end: Option<End>,
        ends: bool,
    ) {
        let end = async {
            match end {
                Some(end) => end,
                None => pending().await,
            }
        };
        let waited = timeout(Duration::from_millis(20), wait(lameduck, snapshots, end)).await;
        assert_eq!(waited.is_ok(), ends, "{lameduck:?}");
    }

    #[tokio::test]
    async fn both_are_waited_for_but_not_beyond_another_signal() {
        check(Duration::ZERO, ready(()), None, true).await;
        check(Duration::from_millis(1), ready(()), None, true).await;
        check(LONG, ready(()), None, false).await;
        check(Duration::ZERO, pending(), None, false).await;
        check(LONG, ready(()), Some(End::Terminate), true).await;
        check(Duration::ZERO, pending(), Some(End::Interrupt), true).await;
        check(LONG, pending(), Some(End::Quit), true).await;
    }
}

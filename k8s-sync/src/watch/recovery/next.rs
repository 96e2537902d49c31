//! What the caller of the recovery has to do next.

use std::time::Duration;

/// The next action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Next {
    /// Go on.
    Continue,
    /// Go on, and ask the server for its resource version.
    Probe,
    /// Go on, and compare what was received with what the server has.
    Compare,
    /// Drop the watch, pause, and resume it from its version.
    Resume(Retry),
    /// Drop the list or watch, pause, and list according to `Recovery::strategy`.
    List(Retry),
}

impl Next {
    pub(in crate::watch) fn is_at_once(self) -> bool {
        match self {
            Self::Continue | Self::Probe | Self::Compare => true,
            Self::Resume(retry) | Self::List(retry) => retry.pause.is_zero(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) struct Retry {
    pub(in crate::watch) pause: Duration,
    /// Use a new client, which reads the credentials again.
    pub(in crate::watch) is_client_renewed: bool,
}

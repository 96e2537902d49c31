//! The signals that the process takes, and what each asks for, in CoreDNS's words.
//!
//! Invariant: of the signals that people and supervisors send, only those that ask for the end bring it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from its making on: what came before it did what the system does by default.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    reload: Signal,
    hang_up: Signal,
    upgrade: Signal,
    /// Never looked at: without it a log file at its size limit (RLIMIT_FSIZE) would end the process. So the write fails.
    _file_too_long: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalRequest {
    End(End),
    Reload,
}

/// How the process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Terminate,
    Interrupt,
    /// At once, with nobody served any more.
    Quit,
}

impl End {
    /// What CoreDNS logs.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM: Shutting down servers then terminating",
            Self::Interrupt => "SIGINT: Shutting down",
            Self::Quit => "SIGQUIT: Quitting process immediately",
        }
    }
}

impl Signals {
    /// Begins to listen. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// The system has no room for a handler.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            reload: signal(SignalKind::user_defined1())?,
            hang_up: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
            _file_too_long: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }

    /// The next signal that asks for something; logs those that do not.
    pub(crate) async fn next(&mut self) -> SignalRequest {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return SignalRequest::End(End::Terminate),
                _ = self.interrupt.recv() => return SignalRequest::End(End::Interrupt),
                _ = self.quit.recv() => return SignalRequest::End(End::Quit),
                _ = self.reload.recv() => return SignalRequest::Reload,
                _ = self.hang_up.recv() => tracing::info!(
                    "SIGHUP: ignored, as CoreDNS does; SIGUSR1 reloads the Corefile, SIGTERM ends the server"
                ),
                _ = self.upgrade.recv() => tracing::warn!(
                    "SIGUSR2: ignored, since ringdns cannot replace its own program; start the new one after SIGTERM, and reload a Corefile with SIGUSR1"
                ),
            }
        }
    }

    /// The next signal that asks for the end. All others go on waiting.
    pub(crate) async fn end(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Terminate,
            _ = self.interrupt.recv() => End::Interrupt,
            _ = self.quit.recv() => End::Quit,
        }
    }
}

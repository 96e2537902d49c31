//! The signals that the process handles, and what each requests, in CoreDNS's words.
//!
//! Invariant: of the signals that people and supervisors send, only SIGTERM, SIGINT and SIGQUIT end
//! the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Handles signals while it exists. Before, they have the system's default effect.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    reload: Signal,
    hang_up: Signal,
    upgrade: Signal,
    /// Never read. It makes a write beyond the file size limit (RLIMIT_FSIZE) fail instead of
    /// ending the process.
    _file_too_long: Signal,
}

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalRequest {
    End(End),
    Reload,
}

/// How to end the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Terminate,
    Interrupt,
    /// Immediately, without draining.
    Quit,
}

impl End {
    /// CoreDNS's log message.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM: Shutting down servers then terminating",
            Self::Interrupt => "SIGINT: Shutting down",
            Self::Quit => "SIGQUIT: Quitting process immediately",
        }
    }
}

impl Signals {
    /// Installs the handlers. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// The system refuses a handler.
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

    /// The next signal with a request. Logs ignored signals.
    pub(crate) async fn next(&mut self) -> SignalRequest {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return SignalRequest::End(End::Terminate),
                _ = self.interrupt.recv() => return SignalRequest::End(End::Interrupt),
                _ = self.quit.recv() => return SignalRequest::End(End::Quit),
                _ = self.reload.recv() => return SignalRequest::Reload,
                _ = self.hang_up.recv() => tracing::info!(
                    "SIGHUP: ignored, as CoreDNS does; SIGUSR1 reloads the Corefile, SIGTERM ends \
                     the server"
                ),
                _ = self.upgrade.recv() => tracing::warn!(
                    "SIGUSR2: ignored, since ringdns cannot replace its running binary; stop it \
                     with SIGTERM and start the new one, or reload the Corefile with SIGUSR1"
                ),
            }
        }
    }

    /// The next signal that ends the process. Leaves all others pending.
    pub(crate) async fn end(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Terminate,
            _ = self.interrupt.recv() => End::Interrupt,
            _ = self.quit.recv() => End::Quit,
        }
    }
}

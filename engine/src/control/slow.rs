//! Files that may be slow or hang: on a network file system, or pipes without a writer or reader.
//!
//! Invariant: the control loop waits for them at most `FILE_TIMEOUT`, and the shards never wait.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::base_corefile::{BaseCorefile, KubeDnsState, RenderedCorefile};
use engine::config::{self, Config};
use engine::corefile::{self, Report, Surroundings};
use engine::limits::{FILE_TIMEOUT, PIDFILE_REMOVAL_TIMEOUT};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// The process's standard input as a file.
pub(crate) const STDIN: &str = "/dev/stdin";

/// The path that stands for no file: what CoreDNS serves without a Corefile is served.
pub(crate) const NO_FILE: &str = "";

/// Where the Corefile comes from.
#[derive(Clone, Debug)]
pub(crate) enum CorefileOrigin {
    File(PathBuf),
    Base(BaseCorefile),
}

impl CorefileOrigin {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Base(base) => base.path(),
        }
    }

    /// `last` is what kube-dns's ConfigMap adds so far.
    fn load(&self, default_port: u16, last: &KubeDnsState) -> RenderedCorefile {
        match self {
            Self::File(path) => RenderedCorefile {
                config: load(path, default_port),
                kube_dns: KubeDnsState::default(),
            },
            Self::Base(base) => base.load(last, &Surroundings::of_process(default_port)),
        }
    }
}

/// The Corefile's file.
pub(crate) struct CorefileSource {
    origin: CorefileOrigin,
    default_port: u16,
    kube_dns: KubeDnsState,
    /// What the log says of it.
    pub(crate) logged_kube_dns: Option<KubeDnsState>,
    /// A read that has not finished. There is never a second one.
    reading: Option<JoinHandle<(Reread, KubeDnsState)>>,
}

/// The result of reading the Corefile again.
pub(crate) enum Reread {
    Read(Box<Config>),
    /// It is a pipe, which can be read only once.
    Unrepeatable,
    Failed(String),
}

impl CorefileSource {
    /// Reads the Corefile for the first time, without a time-out: it may be a pipe, as in
    /// `-conf <(sed …)`.
    ///
    /// # Errors
    /// The mistakes in it, or why it cannot be read.
    pub(crate) async fn first(
        origin: CorefileOrigin,
        default_port: u16,
    ) -> anyhow::Result<(Self, Result<Config, Report>)> {
        let first = origin.clone();
        let load = move || first.load(default_port, &KubeDnsState::default());
        let RenderedCorefile { config, kube_dns } = spawn_blocking(load).await?;
        let source = Self { origin, default_port, kube_dns, logged_kube_dns: None, reading: None };
        Ok((source, config))
    }

    pub(crate) async fn reread(&mut self) -> Reread {
        // A read that finished late may have read an older file.
        self.reading.take_if(|reading| reading.is_finished());
        // A read that hangs is not waited for again.
        let patience = if self.reading.is_some() { Duration::ZERO } else { FILE_TIMEOUT };
        let reading = self.reading.get_or_insert_with(|| {
            let (origin, default_port) = (self.origin.clone(), self.default_port);
            let last = self.kube_dns.clone();
            spawn_blocking(move || {
                if is_read_once(origin.path()) {
                    return (Reread::Unrepeatable, last);
                }
                let RenderedCorefile { config, kube_dns } = origin.load(default_port, &last);
                match config {
                    Ok(config) => (Reread::Read(Box::new(config)), kube_dns),
                    Err(report) => (Reread::Failed(report.to_string()), kube_dns),
                }
            })
        });
        let Ok(read) = timeout(patience, reading).await else {
            return Reread::Failed(format!(
                "open {}: it or a file that it imports was not read within {FILE_TIMEOUT:?}: is it \
                 on a file system that hangs, or a pipe that nobody writes to?",
                self.origin.path().display()
            ));
        };
        self.reading = None;
        match read {
            Ok((reread, kube_dns)) => {
                self.kube_dns = kube_dns;
                reread
            }
            Err(error) => Reread::Failed(format!("read the Corefile: {error}")),
        }
    }

    /// What kube-dns's ConfigMap adds.
    pub(crate) fn kube_dns(&self) -> &KubeDnsState {
        &self.kube_dns
    }

    /// The base Corefile of node mode.
    pub(crate) fn base(&self) -> Option<&BaseCorefile> {
        match &self.origin {
            CorefileOrigin::File(_) => None,
            CorefileOrigin::Base(base) => Some(base),
        }
    }
}

/// Paths in a Corefile from standard input are relative to the working directory.
fn load(path: &Path, default_port: u16) -> Result<Config, Report> {
    if path == Path::new(STDIN)
        && let Ok(text) = corefile::read_file(path)
    {
        return config::parse("stdin", &text, &Surroundings::of_process(default_port));
    }
    if path == Path::new(NO_FILE) {
        return config::without_corefile(&Surroundings::of_process(default_port));
    }
    config::load(path, default_port)
}

/// Whether a file is a pipe, socket or terminal.
fn is_read_once(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_socket() || kind.is_char_device()
    })
}

/// Writes the process id.
///
/// # Errors
/// The file cannot be written, or not within `FILE_TIMEOUT`.
pub(crate) async fn write_pidfile(path: PathBuf) -> io::Result<()> {
    let writing = spawn_blocking(move || std::fs::write(path, pidfile_text()));
    match timeout(FILE_TIMEOUT, writing).await {
        Ok(written) => written.unwrap_or_else(|error| Err(io::Error::other(error))),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it was not written within {FILE_TIMEOUT:?}: is it a pipe that nobody reads?"),
        )),
    }
}

/// Removes the file, as CoreDNS does, if it still has this process's id.
pub(crate) fn remove_pidfile(path: &Path) {
    let path = path.to_owned();
    let (done, is_done) = crossbeam_channel::bounded::<()>(1);
    let removing = std::thread::Builder::new().name("pidfile".into()).spawn(move || {
        let is_file = std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
        if is_file && std::fs::read_to_string(&path).is_ok_and(|pid| pid == pidfile_text()) {
            let _ = std::fs::remove_file(&path);
        }
        drop(done);
    });
    if removing.is_ok() {
        let _ = is_done.recv_timeout(PIDFILE_REMOVAL_TIMEOUT);
    }
}

fn pidfile_text() -> String {
    format!("{}\n", std::process::id())
}

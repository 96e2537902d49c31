//! A child process that cannot outlive its test.
//!
//! Dropping it kills it. If the test process itself is killed, a shell that holds the other end of
//! a pipe sees it close and kills the child. (A parent-death signal would need `unsafe`, and
//! follows the thread, not the process.)

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use rustix::process::{Pid, Signal, kill_process};

/// How many of the log's last lines a failing test prints.
const LOG_LINES_SHOWN: usize = 15;

/// A running child and the file that its output goes to.
pub struct Process {
    name: String,
    child: Child,
    watcher: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` in `dir`; its output is appended to `dir/NAME.log`.
    pub fn start(name: &str, program: &Path, arguments: &[String], dir: &Path) -> Self {
        Self::start_in(&[], name, program, arguments, dir)
    }

    /// Like [`start`](Self::start), with more environment variables.
    pub fn start_in(
        environment: &[(&str, &str)],
        name: &str,
        program: &Path,
        arguments: &[String],
        dir: &Path,
    ) -> Self {
        let log = dir.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).expect("a log file");
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle of the log"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
        let watcher = Command::new("sh")
            .args(["-c", "read -r _; kill -9 $0 2>/dev/null", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        Self { name: name.to_owned(), child, watcher, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has exited.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Everything that it has written.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of its output, each line prefixed with its name.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
        lines[from..].iter().map(|line| format!("{} | {line}\n", self.name)).collect()
    }

    /// Resident memory now, in KiB; 0 if the process has exited.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// Most resident memory since [`reset_peak`](Self::reset_peak), in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// Starts measuring the peak again (proc(5), clear_refs).
    pub fn reset_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(path, "5").expect("a process of ours");
    }

    /// A line of its status in KiB; 0 if the process has exited.
    fn status_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    /// CPU time of all its threads; zero if it has exited.
    pub fn cpu_time(&self) -> Duration {
        let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(self.child.id() as i32));
        clock.and_then(clock_gettime).map_or(Duration::ZERO, Duration::from)
    }

    /// SIGINT: it may end in an orderly way.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// SIGSTOP: it keeps its sockets and does nothing.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM: it ends as it would in a cluster.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub fn kill(&mut self) {
        // The watcher first: once the child is reaped, another process may get its number.
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the last lines of {}:\n{}", self.log.display(), self.log_tail());
        }
    }
}

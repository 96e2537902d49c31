//! When, where and with what the figures were measured, so that the run can be repeated.

use std::fs;
use std::thread;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::VERSION;

#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct About {
    /// UTC, at the start of the measurement.
    pub date: String,
    /// Quoted for a shell.
    pub command: String,
    pub loadgen: String,
    pub cpu: String,
    /// Number of cores that this process may use.
    pub cores: usize,
    pub kernel: String,
    pub servers: Vec<ServerAbout>,
}

#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct ServerAbout {
    pub name: String,
    /// What the server says of itself, or how it was named on the command line.
    pub version: String,
}

impl About {
    pub fn gather(servers: Vec<ServerAbout>) -> Self {
        let words: Vec<String> =
            std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        Self {
            date: Timestamp::now().strftime("%F %H:%M UTC").to_string(),
            command: command(&words),
            loadgen: VERSION.to_owned(),
            cpu: cpu(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel(),
            servers,
        }
    }

    pub fn machine(&self) -> String {
        let plural = if self.cores == 1 { "" } else { "s" };
        format!("{}, {} core{plural}, {}", self.cpu, self.cores, self.kernel)
    }

    /// Name and text of each line.
    pub fn lines(&self) -> Vec<(&str, String)> {
        let mut lines = vec![("date", self.date.clone()), ("machine", self.machine())];
        lines.extend(self.servers.iter().map(|one| (one.name.as_str(), one.version.clone())));
        lines.push(("loadgen", self.loadgen.clone()));
        lines.push(("command", self.command.clone()));
        lines
    }
}

/// The words, quoted where a shell would split or expand them.
fn command(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        // Fails only on a zero byte, which an argument cannot contain.
        shlex::try_quote(word).map_or_else(|_| word.clone(), Into::into)
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The model of the first core in /proc/cpuinfo.
fn cpu(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        let value = line.split_once(':')?.1.trim();
        (!value.is_empty()).then(|| value.to_owned())
    };
    // Arm lists numbers only.
    let part = || Some(format!("CPU {} {}", field("CPU implementer")?, field("CPU part")?));
    let model = field("model name").or_else(part);
    let architecture = std::env::consts::ARCH;
    model.map_or_else(|| architecture.to_owned(), |model| format!("{model} ({architecture})"))
}

fn kernel() -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    let release = read("osrelease");
    release.map_or_else(|| "kernel unknown".to_owned(), |text| format!("Linux {}", text.trim()))
}

/// Describes a server that was not started here: its address, and its process's command.
pub fn of_process(address: &str, pid: Option<u32>) -> String {
    let Some(pid) = pid else { return format!("{address}; version unknown") };
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    match words.is_empty() {
        true => format!("{address}, process {pid}"),
        false => format!("{address}, process {pid}: {}", command(&words)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        let architecture = std::env::consts::ARCH;
        let rows = [
            (
                "processor\t: 0\nmodel name\t: AMD EPYC\nprocessor\t: 1\nmodel name\t: B\n",
                "AMD EPYC (",
            ),
            ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "CPU 0x41 0xd0c ("),
            ("model name\t:\n", architecture),
            ("", architecture),
        ];
        for (cpuinfo, start) in rows {
            assert!(cpu(cpuinfo).starts_with(start), "{cpuinfo:?}: {}", cpu(cpuinfo));
        }
        assert!(kernel().starts_with("Linux "), "{}", kernel());
    }

    #[test]
    fn a_command_is_quoted_for_a_shell() {
        let rows: &[(&[&str], &str)] =
            &[(&["loadgen", "-p", "53"], "loadgen -p 53"), (&["a b", "$x", ""], "'a b' '$x' ''")];
        for (words, expected) in rows {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(command(&words), *expected);
        }
        let own = of_process("192.0.2.1:53", Some(std::process::id()));
        assert!(own.starts_with("192.0.2.1:53, process ") && own.contains(": "), "{own}");
        assert_eq!(of_process("192.0.2.1:53", None), "192.0.2.1:53; version unknown");
    }
}

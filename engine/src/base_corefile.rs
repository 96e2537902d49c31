//! The Corefile of node mode: read from a base Corefile, the mounted ConfigMap of kube-dns and the
//! environment, and rendered in memory by `convert::node_cache`. No file is written.
//!
//! Invariant: a ConfigMap of kube-dns that is invalid changes nothing.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::cli::node::NodeOptions;
use crate::config::{self, Config, NamedBy};
use crate::convert::kube_dns::{self, KubeDnsEntry, KubeDnsSettings};
use crate::convert::node_cache::{self, Pillars};
use crate::corefile::report::Mistake;
use crate::corefile::{self, Report, Surroundings};
use crate::limits::COREFILE_LEN_MAX;

/// node-cache's defaults, used if they exist.
const DEFAULT_BASE: &str = "/etc/coredns/Corefile.base";
const DEFAULT_KUBE_DNS: &str = "/etc/kube-dns";

/// What the Corefile is rendered from.
#[derive(Clone, Debug)]
pub struct BaseCorefile {
    path: PathBuf,
    /// Where the ConfigMap is mounted, a file per key.
    kube_dns: Option<PathBuf>,
    local_ips: Vec<IpAddr>,
    upstream_service: String,
    /// Changes are followed without a line `reload`, too.
    pub always_reloads: bool,
}

/// The result of one rendering.
#[derive(Debug)]
pub struct RenderedCorefile {
    pub config: Result<Config, Report>,
    pub kube_dns: KubeDnsState,
}

/// What the ConfigMap of kube-dns adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeDnsState {
    /// The last valid ones.
    pub settings: KubeDnsSettings,
    /// Parts of them that are left out, and why.
    pub notes: Vec<String>,
    /// Why the current ones are not used.
    pub problem: Option<String>,
}

impl BaseCorefile {
    /// `None` without node mode, or if neither a flag nor node-cache's default names a file.
    #[must_use]
    pub fn of(options: &NodeOptions) -> Option<Self> {
        if options.local_ips.is_empty() {
            return None;
        }
        let default = |path: &str| Some(PathBuf::from(path)).filter(|path| path.exists());
        Some(Self {
            path: options.base_corefile.clone().or_else(|| default(DEFAULT_BASE))?,
            kube_dns: options.kube_dns_folder.clone().or_else(|| default(DEFAULT_KUBE_DNS)),
            local_ips: options.local_ips.clone(),
            upstream_service: options.upstream_service.clone(),
            always_reloads: options.reloads_with_signal,
        })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all files and renders them. `last` has the settings that are used if the current ones
    /// are invalid, or do not go together with the base Corefile.
    #[must_use]
    pub fn load(&self, last: &KubeDnsState, surroundings: &Surroundings<'_>) -> RenderedCorefile {
        let Some(folder) = &self.kube_dns else {
            let kube_dns = KubeDnsState::default();
            return RenderedCorefile {
                config: self.render(&last.settings, surroundings),
                kube_dns,
            };
        };
        let but_for = |problem: Option<String>| KubeDnsState {
            problem: problem.map(|problem| format!("{}: {problem}", folder.display())),
            ..last.clone()
        };
        let current = read_kube_dns(folder).unwrap_or_else(|problem| but_for(Some(problem)));
        let report = match self.render(&current.settings, surroundings) {
            Ok(config) => return RenderedCorefile { config: Ok(config), kube_dns: current },
            Err(report) => report,
        };
        match self.render(&last.settings, surroundings) {
            Ok(config) => {
                let first = report.findings().next();
                let problem = first.map(|first| format!("with it, {}", first.problem));
                RenderedCorefile { config: Ok(config), kube_dns: but_for(problem) }
            }
            Err(_) => RenderedCorefile {
                config: Err(report),
                kube_dns: KubeDnsState { problem: current.problem, ..last.clone() },
            },
        }
    }

    fn render(
        &self,
        kube_dns: &KubeDnsSettings,
        surroundings: &Surroundings<'_>,
    ) -> Result<Config, Report> {
        let base = corefile::read_file(&self.path)
            .map_err(|error| config::unreadable(&self.path, &error, NamedBy::BaseFlag))?;
        let variable = service_variable(&self.upstream_service);
        let address = (surroundings.variable)(&variable);
        let text = node_cache::render(
            &base,
            &Pillars {
                local_ips: &self.local_ips,
                cluster_dns: address.and_then(|address| address.parse().ok()),
                port: surroundings.default_port,
                kube_dns,
            },
        );
        if text.len() as u64 > COREFILE_LEN_MAX {
            let message = format!(
                "{} with its placeholders replaced is longer than {COREFILE_LEN_MAX} bytes",
                self.path.display()
            );
            return Err(Report::of(Mistake::without_place(message), vec![self.path.clone()]));
        }
        let unrendered = node_cache::unrendered(&text, &variable);
        let mut config = config::read_rendered(
            &self.path.display().to_string(),
            Some(&self.path),
            &text,
            unrendered,
            surroundings,
        )?;
        config.folders.extend(self.kube_dns.clone());
        Ok(config)
    }
}

/// The variable with a Service's address that kubelet gives to containers.
fn service_variable(service: &str) -> String {
    format!("{}_SERVICE_HOST", service.replace('-', "_").to_uppercase())
}

/// Reads the keys that there are.
fn read_kube_dns(folder: &Path) -> Result<KubeDnsState, String> {
    // A folder that is missing is not an empty one.
    std::fs::read_dir(folder).map_err(|error| error.to_string())?;
    let mut values = Vec::new();
    for key in kube_dns::KEYS {
        match corefile::read_file(&folder.join(key)) {
            Ok(value) => values.push((key, value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{key}: {error}")),
        }
    }
    let entries = values.iter().map(|(key, value)| KubeDnsEntry { key, value, line: None });
    let mut notes = Vec::new();
    let settings = kube_dns::read(entries, &mut notes).map_err(|failure| failure.text)?;
    let notes = notes.into_iter().map(|note| note.text).collect();
    Ok(KubeDnsState { settings, notes, problem: None })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// The base Corefile of a test, and the folder of its ConfigMap.
    fn base(folder: &TempDir, text: &str) -> BaseCorefile {
        let path = folder.path().join("Corefile.base");
        fs::write(&path, text).unwrap();
        let kube_dns = folder.path().join("kube-dns");
        fs::create_dir_all(&kube_dns).unwrap();
        BaseCorefile {
            path,
            kube_dns: Some(kube_dns),
            local_ips: vec!["169.254.20.10".parse().unwrap()],
            upstream_service: "kube-dns-upstream".to_owned(),
            always_reloads: false,
        }
    }

    fn surroundings() -> Surroundings<'static> {
        Surroundings {
            variable: &|name| {
                (name == "KUBE_DNS_UPSTREAM_SERVICE_HOST").then(|| "10.96.3.4".to_owned())
            },
            ..Surroundings::empty()
        }
    }

    #[test]
    fn words_without_a_value() {
        let folder = TempDir::new().unwrap();
        for (text, expected) in [
            (
                "__PILLAR__DNS__DOMAIN__:53 {\n    whoami\n}",
                "__PILLAR__DNS__DOMAIN__:53 has no value",
            ),
            (
                ". {\n    forward . __PILLAR__CLUSTER__DNS__\n}",
                "__PILLAR__CLUSTER__DNS__ has no value",
            ),
            (". {\n    forward . __PILLAR__X__\n}", "__PILLAR__X__ has no value"),
        ] {
            let base = base(&folder, text);
            let rendered = base.load(&KubeDnsState::default(), &Surroundings::empty());
            let report = rendered.config.unwrap_err();
            let first = report.findings().next().unwrap();
            assert_eq!(first.problem, expected, "{report}");
        }
        // In a comment it does no harm.
        let base = base(&folder, "# __PILLAR__DNS__DOMAIN__\n. {\n    whoami\n}");
        base.load(&KubeDnsState::default(), &surroundings()).config.unwrap();
    }

    #[test]
    fn an_invalid_config_map_changes_nothing() {
        let folder = TempDir::new().unwrap();
        let text = ". {\n    forward . __PILLAR__UPSTREAM__SERVERS__\n}\nx.local {\n    whoami\n}";
        let base = base(&folder, text);
        let stub = folder.path().join("kube-dns/stubDomains");
        let load = |last: &KubeDnsState| base.load(last, &surroundings());

        fs::write(&stub, r#"{"acme.local": ["10.0.0.1"]}"#).unwrap();
        let first = load(&KubeDnsState::default());
        assert_eq!(first.config.as_ref().unwrap().blocks.len(), 3);
        assert_eq!(first.kube_dns.problem, None);

        for (stubs, problem) in [
            ("{", "stubDomains: line 1, column 1 of its value: EOF while parsing an object"),
            (
                r#"{"acme.local": ["tls://10.0.0.1"]}"#,
                "stubDomains: \"acme.local\": \"tls://10.0.0.1\" is not an IP address",
            ),
            (r#"{"x.local": ["10.0.0.1"]}"#, "kube-dns: with it, cannot serve dns://x.local.:53"),
        ] {
            fs::write(&stub, stubs).unwrap();
            let next = load(&first.kube_dns);
            assert_eq!(next.kube_dns.settings, first.kube_dns.settings, "{stubs}");
            let found = next.kube_dns.problem.unwrap();
            assert!(found.contains(problem), "{found}");
            let digest = |config: &Config| config.digest.clone();
            assert_eq!(
                next.config.as_ref().map(digest).unwrap(),
                first.config.as_ref().map(digest).unwrap()
            );
        }

        // A base Corefile that is invalid with and without it is no problem of the ConfigMap.
        fs::write(&base.path, "{").unwrap();
        let broken = load(&first.kube_dns);
        assert!(broken.config.is_err());
        assert_eq!(broken.kube_dns, first.kube_dns);
        fs::write(&base.path, text).unwrap();

        fs::remove_file(&stub).unwrap();
        let empty = load(&first.kube_dns);
        assert_eq!(empty.kube_dns, KubeDnsState::default());
        fs::remove_dir(stub.parent().unwrap()).unwrap();
        let gone = load(&first.kube_dns).kube_dns;
        assert_eq!(gone.settings, first.kube_dns.settings);
        assert!(gone.problem.unwrap().contains("No such file"));
    }
}

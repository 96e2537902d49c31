//! The words of a Corefile as far as a test needs them: which zones and ports each block has, and
//! which names, addresses, patterns and files its lines mention.
//!
//! It is no validation: the servers under test do that.

use std::net::{IpAddr, SocketAddr};

use crate::ask::Transport;
use crate::internet;
use crate::machine;
use crate::reverse;

/// The port of a block whose keys have none.
const PORT: u16 = 53;

/// Every hosts file that a Corefile names.
const HOSTS: &str = "192.0.2.80 node-1 node-1.hosts.example\n2001:db8::80 node-1\n";

/// A Corefile's blocks in their order, snippets included.
pub struct CorefileWords {
    pub blocks: Vec<Block>,
    /// Arguments of all `import` lines that name files.
    imports: Vec<String>,
}

/// A server block, or a snippet, which has no zones.
#[derive(Default)]
pub struct Block {
    /// Zones in lower case with their final dots, each with its port.
    pub keys: Vec<(String, u16)>,
    /// How it is asked; `None` if that takes a certificate.
    pub transport: Option<Transport>,
    /// The words of each line without braces.
    pub lines: Vec<Vec<String>>,
}

impl CorefileWords {
    pub fn read(text: &str) -> Self {
        let mut words = Self { blocks: Vec::new(), imports: Vec::new() };
        let mut depth = 0_usize;
        for line in text.lines().map(split).filter(|line| !line.is_empty()) {
            let (opens, closes) = (count(&line, "{"), count(&line, "}"));
            let line: Vec<String> =
                line.into_iter().filter(|word| word != "{" && word != "}").collect();
            if line.first().is_some_and(|word| word == "import") {
                let files = line[1..].iter().filter(|word| word.contains(['/', '*']));
                words.imports.extend(files.cloned());
            } else if depth == 0 && opens > 0 {
                words.blocks.push(Block::with_keys(&line));
            } else if let (Some(block), false) = (words.blocks.last_mut(), line.is_empty()) {
                block.lines.push(line);
            }
            depth = (depth + opens).saturating_sub(closes);
        }
        words
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        self.blocks.iter().flat_map(|block| &block.lines)
    }

    /// All upstreams that are addresses of another machine.
    pub fn upstreams(&self) -> Vec<SocketAddr> {
        let lines = self.lines().filter(|line| line[0] == "forward");
        let words = lines.flat_map(|line| line.iter().skip(2));
        let mut upstreams: Vec<SocketAddr> = words
            .filter_map(|word| {
                let word = word.split_once("://").map_or(word.as_str(), |(_, address)| address);
                let with_port = word.parse::<SocketAddr>().ok();
                let address = with_port.map(|with_port| with_port.ip());
                let address = address.or_else(|| word.parse().ok())?;
                Some(internet::upstream(address, with_port.map(|address| address.port())))
            })
            .filter(|upstream| !upstream.ip().is_loopback())
            .collect();
        upstreams.sort_unstable();
        upstreams.dedup();
        upstreams
    }

    /// The addresses that `bind` requires.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let mut own: Vec<IpAddr> = self.blocks.iter().flat_map(Block::bound).collect();
        own.retain(|address| !address.is_loopback() && !address.is_unspecified());
        own.sort_unstable();
        own.dedup();
        own
    }

    /// Host names of upstreams and of their certificates.
    pub fn server_names(&self) -> Vec<String> {
        let by_option = self.lines().filter(|line| line[0] == "tls_servername");
        let by_option = by_option.filter_map(|line| line.get(1).cloned());
        let upstreams = self.lines().filter(|line| line[0] == "forward").flatten();
        let hosts = upstreams.filter_map(|word| word.strip_prefix("tls://"));
        let hosts = hosts.filter(|host| host.parse::<IpAddr>().is_err());
        by_option.chain(hosts.map(str::to_owned)).collect()
    }

    /// The files that the Corefile needs, with small contents: paths are absolute.
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for block in &self.blocks {
            for line in &block.lines {
                match (line[0].as_str(), line.get(1)) {
                    ("hosts", Some(path)) if path.contains(['/', '.']) => {
                        files.push((absolute(path, "/"), HOSTS.to_owned()));
                    }
                    ("file", Some(path)) => {
                        let zone = block.keys.first().map_or(".", |(zone, _)| zone.as_str());
                        files.push((absolute(path, "/"), zone_file(zone)));
                    }
                    _ => {}
                }
            }
        }
        let port =
            self.blocks.iter().find_map(|block| block.keys.first()).map_or(PORT, |key| key.1);
        for pattern in &self.imports {
            let path = absolute(&pattern.replace('*', "extra"), "/etc/coredns/");
            let text = if pattern.ends_with(".override") || pattern.ends_with(".include") {
                "rewrite name exact override.example www.example.org\n".to_owned()
            } else {
                let name = if pattern.ends_with(".server") { "server" } else { "import" };
                format!("{name}.example:{port} {{\n    errors\n    forward . 192.0.2.53\n}}\n")
            };
            files.push((path, text));
        }
        files
    }
}

impl Block {
    fn with_keys(words: &[String]) -> Self {
        let is_snippet = words.first().is_some_and(|word| word.starts_with('('));
        let mut block = Self { transport: Some(Transport::UdpThenTcp), ..Self::default() };
        for word in words.iter().filter(|_| !is_snippet) {
            let word = word.trim_end_matches(',').to_ascii_lowercase();
            let (scheme, rest) = word.split_once("://").unwrap_or(("dns", &word));
            match scheme {
                "dns" => {}
                "https" => block.transport = Some(Transport::Http),
                _ => block.transport = None,
            }
            let with_port = rest
                .rsplit_once(':')
                .and_then(|(zone, port)| Some((zone, port.parse::<u16>().ok()?)));
            let (zone, port) = with_port.unwrap_or((rest, PORT));
            let is_network = zone.split_once('/').is_some_and(|(address, len)| {
                address.parse::<IpAddr>().is_ok() && len.parse::<u8>().is_ok()
            });
            let zones = if is_network { reverse::zones(zone) } else { vec![zone.to_owned()] };
            block.keys.extend(zones.into_iter().map(|zone| (with_dot(&zone), port)));
        }
        block
    }

    /// The addresses of `bind`.
    fn bound(&self) -> Vec<IpAddr> {
        let lines = self.lines.iter().filter(|line| line[0] == "bind");
        lines.flatten().filter_map(|word| word.parse().ok()).collect()
    }

    /// Where to ask the block.
    pub fn address(&self) -> Option<SocketAddr> {
        let port = self.keys.first()?.1;
        let bound = self.bound().into_iter().find(|address| !address.is_unspecified());
        Some((bound.unwrap_or_else(|| machine::ADDRESS.into()), port).into())
    }

    pub fn has(&self, directive: &str) -> bool {
        self.lines.iter().any(|line| line[0] == directive)
    }

    /// The zones of `kubernetes`: its own, or those of the block; empty without it.
    pub fn cluster_zones(&self) -> Vec<String> {
        let Some(line) = self.lines.iter().find(|line| line[0] == "kubernetes") else {
            return Vec::new();
        };
        // What is no name is no zone either.
        let words = line[1..].iter().filter(|word| !word.starts_with('.') || *word == ".");
        let mut zones: Vec<String> = words.map(|word| with_dot(word)).collect();
        if zones.is_empty() {
            zones = self.keys.iter().map(|(zone, _)| zone.clone()).collect();
        }
        zones
    }

    /// The names that its lines mention, with their final dots.
    pub fn names(&self) -> Vec<String> {
        let lines = self.lines.iter().filter(|line| line[0] != "tls_servername");
        let words = lines.flat_map(|line| line[1..].iter());
        words.filter(|word| is_name(word)).map(|word| with_dot(word)).collect()
    }

    /// The addresses of its hosts, as opposed to those of upstreams.
    pub fn hosts(&self) -> Vec<IpAddr> {
        let inline = self.lines.iter().filter_map(|line| line[0].parse().ok());
        let in_file = HOSTS.lines().filter_map(|line| line.split(' ').next()?.parse().ok());
        inline.chain(in_file.filter(|_| self.has("hosts"))).collect()
    }

    /// The TTLs of records that are not an upstream's.
    pub fn own_ttls(&self) -> Vec<u32> {
        let by_option = self.lines.iter().filter(|line| line[0] == "ttl");
        let by_option = by_option.filter_map(|line| line.get(1)?.parse().ok());
        let records = ["answer", "additional", "authority"];
        let records = self.lines.iter().filter(|line| records.contains(&line[0].as_str()));
        let records = records.flatten().flat_map(|word| word.split_whitespace());
        let of_files = [300, 120].into_iter().filter(|_| self.has("file"));
        let defaults = [("kubernetes", 5), ("k8s_external", 5), ("hosts", 3600)];
        let defaults = defaults.iter().filter(|(directive, _)| self.has(directive));
        by_option
            .chain(records.filter_map(|word| word.parse().ok()))
            .chain(of_files)
            .chain(defaults.map(|(_, ttl)| *ttl))
            .collect()
    }

    /// The regular expressions that names are compared with.
    pub fn patterns(&self) -> Vec<String> {
        let patterns = self.lines.iter().flat_map(|line| {
            let at = line.iter().position(|word| word == "regex" || word == "match");
            at.map(|at| line[at + 1..].to_vec()).unwrap_or_default()
        });
        let patterns = patterns.filter(|word| word.contains('\\') || word.contains('['));
        patterns.filter(|word| !word.starts_with('{')).collect()
    }
}

/// The words of a line without its comment. Quotes group words.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    words
}

fn count(line: &[String], brace: &str) -> usize {
    line.iter().filter(|word| *word == brace).count()
}

fn absolute(path: &str, folder: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{folder}{path}") }
}

pub fn with_dot(name: &str) -> String {
    if name == "." { name.to_owned() } else { format!("{}.", name.trim_end_matches('.')) }
}

/// Whether a word may be a domain name: two labels or more, and not an address.
fn is_name(word: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    word.trim_end_matches('.').contains('.')
        && word.contains(|letter: char| letter.is_ascii_alphabetic())
        && word.chars().all(is_letter)
        && !word.starts_with('.')
}

/// A zone with a few records and a delegation.
fn zone_file(zone: &str) -> String {
    format!(
        "$ORIGIN {zone}
$TTL 300
@ IN SOA ns hostmaster 2026010100 3600 600 86400 120
@ IN NS ns
@ IN A 192.0.2.61
@ IN MX 10 mail
ns IN A 192.0.2.60
www IN A 192.0.2.61
www IN AAAA 2001:db8::61
mail IN A 192.0.2.62
text IN TXT \"a text\"
alias IN CNAME www
*.wild IN A 192.0.2.63
_http._tcp IN SRV 0 5 80 www
sub IN NS ns.sub
ns.sub IN A 192.0.2.64
"
    )
}

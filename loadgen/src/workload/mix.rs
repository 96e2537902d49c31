//! Generates a workload from a cluster's names: how often each is queried, plus external names,
//! missing names, 0x20 and EDNS.
//!
//! A workload is generated once from a seed. Popularity follows Zipf's law over the names in
//! shuffled order, since a name's popularity has nothing to do with the alphabet.

use std::fmt;
use std::str::FromStr;

use domain::base::{Name, Rtype};
use rand_distr::{Distribution, StandardUniform, Uniform, Zipf};
use rand_pcg::Pcg64;

use super::cluster::Cluster;
use super::profile::{self, Spelling};
use super::{Options, Question, Workload, WorkloadTooLarge};

/// External names; those of RFC 2606, so that a forwarder only sends harmless queries.
const EXTERNAL_NAME_COUNT: usize = 200;
/// Missing names of a run; each is queried repeatedly, like a misspelt name in a configuration.
const MISSING_NAME_COUNT: usize = 1_000;
/// How programs spell Services: name only, with the namespace, or in full (parts of ten).
const SPELLINGS: [(Spelling, u32); 3] =
    [(Spelling::Short, 4), (Spelling::WithNamespace, 4), (Spelling::Full, 2)];

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// One query per look-up: every name and type of the cluster.
    Plain,
    /// What glibc and musl send in a pod: the search list, A and AAAA together.
    Ndots5,
}

/// Shares are of look-ups. Valid: 0 to 1, `external + nxdomain` at most 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    pub profile: Profile,
    pub external: f64,
    pub nxdomain: f64,
    pub mixed_case: f64,
    pub edns: f64,
    pub dnssec_ok: bool,
    /// Zipf's exponent; 0: all names are equally popular.
    pub zipf: f64,
    /// Messages of the workload.
    pub messages: usize,
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MixError {
    TooLarge(WorkloadTooLarge),
    NotAName { name: String, reason: String },
}

impl fmt::Display for MixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(error) => error.fmt(f),
            Self::NotAName { name, reason } => write!(f, "'{name}' cannot be queried: {reason}"),
        }
    }
}

impl std::error::Error for MixError {}

/// The source of all random choices.
struct Random(Pcg64);

impl Random {
    fn share(&mut self, share: f64) -> bool {
        let sample: f64 = StandardUniform.sample(&mut self.0);
        sample < share
    }

    fn below(&mut self, count: usize) -> usize {
        Uniform::new(0, count as u64).expect("never called on none").sample(&mut self.0) as usize
    }

    fn rank(&mut self, zipf: &Zipf<f64>) -> usize {
        zipf.sample(&mut self.0) as usize - 1
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.below(last + 1);
            list.swap(last, other);
        }
    }

    fn spelling(&mut self) -> Spelling {
        let mut part = self.below(SPELLINGS.iter().map(|(_, parts)| *parts as usize).sum()) as u32;
        for (spelling, parts) in SPELLINGS {
            if part < parts {
                return spelling;
            }
            part -= parts;
        }
        unreachable!("the parts are summed above")
    }

    /// Each letter in upper or lower case at random (draft-vixie-dnsext-dns0x20).
    fn mixed_case(&mut self, name: &str) -> String {
        let mut bits = 0u64;
        let mut left = 0;
        name.chars()
            .map(|letter| {
                if left == 0 {
                    (bits, left) = (StandardUniform.sample(&mut self.0), 64);
                }
                let is_upper = bits & 1 == 1;
                (bits, left) = (bits >> 1, left - 1);
                if is_upper { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
            })
            .collect()
    }
}

/// Generates the workload.
pub fn generate(cluster: &Cluster, mix: &Mix) -> Result<Workload, MixError> {
    assert!(!cluster.services.is_empty() && !cluster.names.is_empty() && mix.messages > 0);
    let mut random = Random(Pcg64::new(u128::from(mix.seed), 1));
    let mut cluster = cluster.clone();
    random.shuffle(&mut cluster.names);
    random.shuffle(&mut cluster.services);
    let zipf =
        |count: usize| Zipf::new(count as f64, mix.zipf).expect("counts and exponent are checked");
    let (names, services, externals) =
        (zipf(cluster.names.len()), zipf(cluster.services.len()), zipf(EXTERNAL_NAME_COUNT));
    let mut workload = Workload::default();
    while workload.len() < mix.messages {
        let kind: f64 = StandardUniform.sample(&mut random.0);
        let from = cluster.services[random.below(cluster.services.len())].namespace.clone();
        let questions = if kind < mix.external {
            let name = format!("host-{}.example.com", random.rank(&externals));
            match mix.profile {
                Profile::Plain => vec![(name, Rtype::A)],
                Profile::Ndots5 => profile::external(&cluster, &name, &from),
            }
        } else if kind < mix.external + mix.nxdomain {
            vec![(
                format!("missing-{}.{from}.svc.{}", random.below(MISSING_NAME_COUNT), cluster.zone),
                Rtype::A,
            )]
        } else {
            match mix.profile {
                Profile::Plain => {
                    let one = &cluster.names[random.rank(&names)];
                    vec![(one.name.clone(), one.rtype)]
                }
                Profile::Ndots5 => {
                    let service = &cluster.services[random.rank(&services)];
                    profile::service(&cluster, service, &from, random.spelling())
                }
            }
        };
        push(&mut workload, &mut random, mix, questions)?;
    }
    Ok(workload)
}

/// All queries of a look-up share their case and options, since one resolver sends them.
fn push(
    workload: &mut Workload,
    random: &mut Random,
    mix: &Mix,
    questions: Vec<(String, Rtype)>,
) -> Result<(), MixError> {
    let is_mixed = random.share(mix.mixed_case);
    let options = Options { edns: random.share(mix.edns), dnssec_ok: mix.dnssec_ok };
    for (name, rtype) in questions {
        let name = if is_mixed { random.mixed_case(&name) } else { name };
        let name = Name::from_str(&name)
            .map_err(|error| MixError::NotAName { name, reason: error.to_string() })?;
        workload.push(&Question { name, rtype }, options).map_err(MixError::TooLarge)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::cluster::{ClusterName, ServiceName};

    fn cluster() -> Cluster {
        let services = (0..50)
            .map(|i| ServiceName { namespace: format!("ns{}", i % 5), name: format!("s{i}") });
        let services: Vec<ServiceName> = services.collect();
        let names = services.iter().map(|s| ClusterName {
            name: format!("{}.{}.svc.cluster.local", s.name, s.namespace),
            rtype: Rtype::A,
        });
        Cluster { zone: "cluster.local".to_owned(), names: names.collect(), services }
    }

    fn mix() -> Mix {
        Mix {
            profile: Profile::Plain,
            external: 0.2,
            nxdomain: 0.1,
            mixed_case: 0.5,
            edns: 0.25,
            dnssec_ok: false,
            zipf: 1.0,
            messages: 20_000,
            seed: 42,
        }
    }

    fn bytes(workload: &Workload) -> Vec<&[u8]> {
        (0..workload.len() as u32).map(|index| workload.message(index).bytes).collect()
    }

    #[test]
    fn a_seed_repeats_every_byte() {
        let (one, same) =
            (generate(&cluster(), &mix()).unwrap(), generate(&cluster(), &mix()).unwrap());
        assert_eq!(bytes(&one), bytes(&same));
        let other = generate(&cluster(), &Mix { seed: 43, ..mix() }).unwrap();
        assert_ne!(bytes(&one), bytes(&other));
    }

    #[test]
    fn shares_hold_and_popularity_follows_zipf() {
        let workload = generate(&cluster(), &mix()).unwrap();
        let questions: Vec<String> =
            (0..workload.len() as u32).map(|index| workload.question(index).0).collect();
        let share = |test: &dyn Fn(&String) -> bool| {
            questions.iter().filter(|name| test(name)).count() as f64 / questions.len() as f64
        };
        let near = |share: f64, expected: f64| {
            assert!((share - expected).abs() < 0.01, "{share} for {expected}")
        };
        near(share(&|name| name.to_ascii_lowercase().ends_with("example.com")), 0.2);
        near(share(&|name| name.to_ascii_lowercase().starts_with("missing-")), 0.1);
        near(share(&|name| name.bytes().any(|byte| byte.is_ascii_uppercase())), 0.5);
        let with_opt = bytes(&workload).iter().filter(|message| message[11] == 1).count();
        near(with_opt as f64 / workload.len() as f64, 0.25);
        let mut counts = std::collections::HashMap::new();
        for name in questions.iter().filter(|name| name.starts_with('s') || name.starts_with('S')) {
            *counts.entry(name.to_ascii_lowercase()).or_insert(0u32) += 1;
        }
        let mut counts: Vec<u32> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        // The first of 50 has 1/H(50) of all queries, twice as many as the second.
        near(f64::from(counts[0]) / counts.iter().sum::<u32>() as f64, 1.0 / 4.499);
        assert!((f64::from(counts[0]) / f64::from(counts[1]) - 2.0).abs() < 0.15, "{counts:?}");
    }

    #[test]
    fn ndots5_multiplies_look_ups() {
        let all_external = Mix {
            profile: Profile::Ndots5,
            external: 1.0,
            nxdomain: 0.0,
            mixed_case: 0.0,
            messages: 80,
            ..mix()
        };
        let workload = generate(&cluster(), &all_external).unwrap();
        assert_eq!(workload.len(), 80);
        for look_up in 0..10 {
            let first = workload.question(look_up * 8);
            let last = workload.question(look_up * 8 + 7);
            assert!(
                first.0.starts_with(&last.0) && first.0.ends_with(".svc.cluster.local"),
                "{first:?} {last:?}"
            );
            assert_eq!((first.1, last.1), (Rtype::A, Rtype::AAAA));
        }
    }
}

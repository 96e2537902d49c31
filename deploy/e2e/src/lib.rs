//! The parts of the end-to-end tests: a real etcd and kube-apiserver, the servers under test
//! (ringdns, and CoreDNS beside it), real upstreams, the questions, and the comparison of
//! responses.
//!
//! Everything runs on loopback, on free ports and in temporary folders, and stops when the value
//! that started it is dropped. No test sleeps until something has happened: it polls with a
//! deadline.

pub mod admission;
pub mod answer;
pub mod ask;
pub mod authority;
pub mod balancer;
pub mod cache_scenarios;
pub mod cluster;
pub mod comparison;
pub mod corefile;
pub mod corefile_questions;
pub mod corefile_report;
pub mod corefile_words;
pub mod credentials;
pub mod crowd;
pub mod deadline;
pub mod delays;
pub mod difference;
pub mod expected;
pub mod fake_api;
pub mod http;
pub mod internet;
pub mod judge;
pub mod knot;
pub mod load;
pub mod machine;
pub mod objects;
#[path = "../../../engine/tests/rig/port.rs"]
pub mod port;
pub mod process;
pub mod pulse;
pub mod query;
pub mod question;
pub mod questions;
pub mod quirk;
pub mod relay;
pub mod rendering;
pub mod reverse;
pub mod rule;
pub mod sample_cluster;
mod sample_endpoint;
mod sample_service;
pub mod say;
pub mod schemas;
pub mod seccomp;
pub mod server;
pub mod timeline;
pub mod tools;
pub mod unbound;
pub mod upstream;

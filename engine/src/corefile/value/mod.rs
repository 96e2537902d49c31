//! Values that directives and options take, each with its syntax.

pub mod duration;
pub mod http_address;
pub mod key;
pub mod listen_ip;
pub(crate) mod number;
pub mod selector;
pub mod target;
pub mod zone;

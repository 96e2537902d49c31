//! The cache as a script: queries and upstream responses, second by second (`script`).

mod evictions;
mod script;
mod stale;
mod ttls;

//! loadgen against servers whose behaviour is known, as a library and as the command.

mod command;
mod server;
mod truth;

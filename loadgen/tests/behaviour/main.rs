//! loadgen against servers whose behaviour is known, as a library and as the command.

mod command;
mod compare;
mod server;
mod truth;

//! A process that ends with its test.
#![allow(dead_code, unreachable_pub)] // Each test binary uses a part of its copy.

use std::ops::{Deref, DerefMut};
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

/// Killed and awaited when it is dropped, so also by a test that fails.
pub struct TestChild(pub Child);

impl TestChild {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Deref for TestChild {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for TestChild {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for TestChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

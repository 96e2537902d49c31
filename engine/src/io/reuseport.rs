//! How the kernel chooses one of the sockets that share an address (SO_REUSEPORT): by the hash of
//! the client's address and port, or by a program of ours from the CPU that received the packet.
//!
//! A program returns the index of a socket: sockets count in the order in which they were bound or,
//! for TCP, began to listen. Here that is the order of the shards, and `socket` keeps it so.
//! Invariant: if a program returns no valid index, the kernel uses the hash.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::sock_filter;

use crate::limits::STEERING_PROGRAM_LEN_MAX;

/// No socket has this index, so the kernel uses the hash.
const NO_SOCKET: u32 = u32::MAX;

/// Where the kernel keeps the number of the CPU, among what a program can load besides the packet.
const CPU: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;

/// The program that returns the shard of the CPU that received the packet. `cpus_of_shards`: each
/// shard's CPU, no two the same. CPUs without a shard are shared out evenly. `cpu_count`: the
/// machine's CPUs, numbered from 0; the hash chooses for any beyond.
///
/// # Panics
/// There is no shard.
#[must_use]
pub fn program_by_cpu(cpus_of_shards: &[usize], cpu_count: usize) -> Vec<sock_filter> {
    let shard_count = cpus_of_shards.len();
    assert!(shard_count > 0);
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, CPU)];
    if cpus_of_shards.iter().copied().eq(0..shard_count) {
        if cpu_count > shard_count {
            program.push(statement(libc::BPF_ALU | libc::BPF_MOD, shard_count as u32));
        }
        program.push(statement(libc::BPF_RET | libc::BPF_A, 0));
        return program;
    }
    let shards = shards_of_cpus(cpus_of_shards, cpu_count);
    for run in runs(&shards) {
        if program.len() + RUN_LEN >= STEERING_PROGRAM_LEN_MAX {
            break;
        }
        let after_run = (RUN_LEN - 1) as u8;
        let distance = (run.first_shard as u32).wrapping_sub(run.first_cpu as u32);
        program.extend([
            jump(libc::BPF_JGE, run.end as u32, after_run),
            statement(libc::BPF_ALU | libc::BPF_ADD, distance),
            statement(libc::BPF_RET | libc::BPF_A, 0),
        ]);
    }
    program.push(statement(libc::BPF_RET, NO_SOCKET));
    program
}

/// The program that leaves the choice to the hash. Programs can be replaced since Linux 4.5, but
/// removed only since 5.3.
#[must_use]
pub fn program_by_hash() -> [sock_filter; 1] {
    program_to(NO_SOCKET)
}

/// The program that chooses this socket, and leaves the choice to the hash if there is none.
#[must_use]
pub fn program_to(index: u32) -> [sock_filter; 1] {
    [statement(libc::BPF_RET, index)]
}

/// The program that chooses one of the sockets `count..2 * count`, by the CPU that received the
/// packet: the sockets of another process behind the `count` of this one. The hash chooses if there
/// are fewer.
#[must_use]
pub fn program_behind(count: usize) -> [sock_filter; 4] {
    let count = count as u32;
    [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, CPU),
        statement(libc::BPF_ALU | libc::BPF_MOD, count),
        statement(libc::BPF_ALU | libc::BPF_ADD, count),
        statement(libc::BPF_RET | libc::BPF_A, 0),
    ]
}

/// Has the kernel run this program for each packet to the address of this socket. One socket stands
/// for all that share the address.
///
/// # Errors
/// The kernel's: the socket shares its address with none, or the kernel lacks this option.
pub fn attach(socket: &impl AsFd, program: &[sock_filter]) -> io::Result<()> {
    debug_assert!(program.len() <= STEERING_PROGRAM_LEN_MAX);
    let header = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads `header` and the `len` statements that it points at, and writes
    // neither. Both live until the call returns, and the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const header).cast(),
            size_of_val(&header) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The shard of each CPU.
fn shards_of_cpus(cpus_of_shards: &[usize], cpu_count: usize) -> Vec<usize> {
    let mut spare_count = 0;
    let shard = |cpu| {
        cpus_of_shards.iter().position(|of_shard| *of_shard == cpu).unwrap_or_else(|| {
            spare_count += 1;
            (spare_count - 1) % cpus_of_shards.len()
        })
    };
    (0..cpu_count).map(shard).collect()
}

/// CPUs in a row whose shards are in a row too.
struct CpuRun {
    first_cpu: usize,
    first_shard: usize,
    /// One after the last CPU.
    end: usize,
}

/// The statements of a run.
const RUN_LEN: usize = 3;

fn runs(shards: &[usize]) -> Vec<CpuRun> {
    let mut runs: Vec<CpuRun> = Vec::new();
    for (cpu, shard) in shards.iter().copied().enumerate() {
        match runs.last_mut() {
            Some(run) if shard == run.first_shard + (cpu - run.first_cpu) => run.end = cpu + 1,
            _ => runs.push(CpuRun { first_cpu: cpu, first_shard: shard, end: cpu + 1 }),
        }
    }
    runs
}

/// `operand`: its constant, BPF_K.
fn statement(code: u32, operand: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k: operand }
}

/// Skips `count` statements if the comparison with `operand` holds.
fn jump(comparison: u32, operand: u32, count: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | comparison) as u16, jt: count, jf: 0, k: operand }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::io::socket::{PortClaim, bind};

    /// The index that a program returns on this CPU, as the kernel runs it.
    fn run(program: &[sock_filter], cpu: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0_u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                0x20 if k == 0xFFFF_F024 => accumulator = cpu,
                0x04 => accumulator = accumulator.wrapping_add(k),
                0x94 => accumulator %= k,
                0x35 => at += usize::from(if accumulator >= k { jt } else { jf }),
                0x16 => return accumulator,
                0x06 => return k,
                _ => panic!("statement {code:#x} {k:#x}"),
            }
        }
    }

    #[test]
    fn each_cpu_has_its_shard_and_the_rest_are_shared_out() {
        const HASH: u32 = NO_SOCKET;
        let check = |cpus_of_shards: &[usize], cpu_count, expected: &[u32]| {
            let program = program_by_cpu(cpus_of_shards, cpu_count);
            let found: Vec<_> = (0..expected.len() as u32).map(|cpu| run(&program, cpu)).collect();
            assert_eq!(found, expected, "{cpus_of_shards:?} of {cpu_count}");
        };
        check(&[0], 1, &[0]);
        check(&[0], 4, &[0, 0, 0, 0]);
        check(&[0, 1], 2, &[0, 1]);
        check(&[0, 1], 5, &[0, 1, 0, 1, 0]);
        check(&[1, 0], 2, &[1, 0, HASH]);
        check(&[1, 2], 4, &[0, 0, 1, 1, HASH]);
        check(&[2, 3], 4, &[0, 1, 0, 1, HASH]);
        check(&[0, 2, 4], 6, &[0, 0, 1, 1, 2, 2, HASH]);
        check(&[3, 1], 8, &[0, 1, 1, 0, 0, 1, 0, 1, HASH]);
        check(&[5], 8, &[0, 0, 0, 0, 0, 0, 0, 0, HASH]);
    }

    #[test]
    fn sockets_behind_are_shared_out() {
        let found: Vec<_> = (0..5).map(|cpu| run(&program_behind(2), cpu)).collect();
        assert_eq!(found, [2, 3, 2, 3, 2]);
        assert_eq!(run(&program_behind(1), 7), 1);
    }

    #[test]
    fn programs_are_short() {
        let check = |cpus_of_shards: Vec<usize>, cpu_count, expected: usize| {
            let program = program_by_cpu(&cpus_of_shards, cpu_count);
            assert_eq!(program.len(), expected, "{cpus_of_shards:?} of {cpu_count}");
        };
        check((0..64).collect(), 64, 2);
        check((0..64).collect(), 128, 3);
        // 32 CPUs without a shard, 32 with one, and 64 without.
        check((32..64).collect(), 128, 2 + 4 * RUN_LEN);
        check((0..128).map(|shard| 2 * shard + 1).collect(), 256, 2 + 129 * RUN_LEN);
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_hash() {
        let cpus: Vec<usize> = (0..256).map(|shard| 4 * shard).collect();
        let program = program_by_cpu(&cpus, 1024);
        assert!(program.len() <= STEERING_PROGRAM_LEN_MAX);
        assert_eq!(run(&program, 8), 2);
        assert_eq!(run(&program, 1020), NO_SOCKET);
    }

    #[test]
    fn the_kernel_accepts_every_program() {
        let sockets =
            bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 2, PortClaim::Alone).unwrap();
        let of_a_large_machine: Vec<usize> = (0..256).map(|shard| 4 * shard).collect();
        for program in [
            program_by_cpu(&[0, 1], 2),
            program_by_cpu(&[0, 1], 4),
            program_by_cpu(&[1, 2], 4),
            program_by_cpu(&of_a_large_machine, 1024),
            program_by_hash().to_vec(),
            program_behind(2).to_vec(),
        ] {
            attach(sockets[1].own.udp.as_ref().unwrap(), &program).unwrap();
            attach(&sockets[0].own.tcp, &program).unwrap();
        }
    }
}

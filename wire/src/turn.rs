//! Whose turn it is: the address that a response begins with, or the part of an answer that it has.

/// The golden ratio and the square root of two, without their whole parts: of 2^64.
const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;
const ROOT_OF_TWO: u64 = 0x6A09_E667_F3BC_C908;

/// The index, of `count`, that a rotation chooses. Zero if there is none.
///
/// Not the remainder: a client that asks for A and AAAA, or over UDP and then over TCP, moves the
/// rotation by two each time, and of two addresses would always get the same one first. Multiples
/// of an irrational number, without their whole part, are spread evenly, those of every second
/// rotation too.
#[inline]
pub(crate) fn turn(rotation: usize, count: usize) -> usize {
    multiple(rotation, GOLDEN_RATIO, count)
}

/// The address that a part begins with, if the part was chosen by `turn` of the same rotation. Of
/// the same multiples, some parts would never begin with some addresses.
pub(crate) fn turn_in_part(rotation: usize, count: usize) -> usize {
    multiple(rotation, ROOT_OF_TWO, count)
}

#[inline]
fn multiple(rotation: usize, ratio: u64, count: usize) -> usize {
    let fraction = (rotation as u64).wrapping_mul(ratio) >> 32;
    ((fraction * count as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::turn;

    /// Clients that ask once per look-up, twice (for A and AAAA, or over UDP and then over TCP) or
    /// four times get every index soon, and each about as often.
    #[test]
    fn every_index_has_its_turn() {
        for (step, rounds_max) in [(1, 2), (2, 3), (4, 4)] {
            for count in 1..=64 {
                for first in (0..1_000_000).step_by(9_973) {
                    let chosen = (first..).step_by(step).map(|at| turn(at, count));
                    let mut is_chosen = alloc::vec![false; count];
                    let soon = chosen.clone().take(rounds_max * count);
                    soon.for_each(|index| is_chosen[index] = true);
                    assert!(is_chosen.iter().all(|it| *it), "{count}, step {step}");
                    let mut times = alloc::vec![0_usize; count];
                    chosen.take(100 * count).for_each(|index| times[index] += 1);
                    let range = times.iter().min().copied()..=times.iter().max().copied();
                    assert!(times.iter().all(|times| (95..=105).contains(times)), "{range:?}");
                }
            }
        }
        assert_eq!(turn(7, 0), 0);
    }
}

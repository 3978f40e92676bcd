//! Programs on a machine of our own, over more packets than sockets could send. That the kernel's does the same is
//! shown by `tests/steering.rs`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::steering::{ACTIVE_MAX, HASHED_MAX};

/// The kernel's `BPF_MAXINSNS`.
const INSTRUCTIONS_MAX: usize = 4096;

/// The network header and the first bytes of the transport header.
fn packet(source: IpAddr, port: u16) -> Vec<u8> {
    let mut bytes = match source {
        IpAddr::V4(source) => {
            // With an option, so that the transport header is not where one would guess.
            let mut header = vec![0; 24];
            header[0] = 0x46;
            header[12..16].copy_from_slice(&source.octets());
            header
        }
        IpAddr::V6(source) => {
            let mut header = vec![0; 40];
            header[0] = 0x60;
            header[6] = 17;
            header[8..24].copy_from_slice(&source.octets());
            header
        }
    };
    bytes.extend(port.to_be_bytes());
    bytes.resize(bytes.len() + 6, 0);
    bytes
}

/// What the program returns for a packet, given the random number.
fn run(program: &[sock_filter], packet: &[u8], random: u32) -> u32 {
    let at = |offset: u32, length: usize| {
        let start = offset.wrapping_sub(NETWORK_HEADER) as usize;
        packet[start..start + length].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
    };
    let (mut a, mut x, mut cells, mut next) = (0_u32, 0_u32, [None; 16], 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[next];
        next += 1;
        let mut jump = |condition| next += usize::from(if condition { jt } else { jf });
        match code {
            LOAD_WORD if k == RANDOM => a = random,
            LOAD_WORD => a = at(k, 4),
            LOAD_HALF => a = at(k, 2),
            LOAD_BYTE => a = at(k, 1),
            LOAD_HALF_AT_X => a = at(k.wrapping_add(x), 2),
            LOAD_NUMBER => a = k,
            LOAD_CELL => a = cells[k as usize].unwrap(),
            LOAD_CELL_TO_X => x = cells[k as usize].unwrap(),
            LOAD_HEADER_LENGTH_TO_X => x = (at(k, 1) & 15) * 4,
            STORE => cells[k as usize] = Some(a),
            MULTIPLY => a = a.wrapping_mul(k),
            MODULO => a %= k,
            SHIFT_RIGHT => a >>= k,
            XOR => a ^= k,
            XOR_X => a ^= x,
            COPY_TO_X => x = a,
            JUMP => next += k as usize,
            JUMP_IF_EQUAL => jump(a == k),
            JUMP_IF_AT_LEAST => jump(a >= k),
            JUMP_IF_ABOVE_X => jump(a > x),
            RETURN => return k,
            RETURN_A => return a,
            other => panic!("no such instruction: {other:#x}"),
        }
    }
}

/// Neighbours in many networks, as clients are.
fn sources() -> Vec<IpAddr> {
    let v4 = (0..20_000_u32).map(|n| Ipv4Addr::from(0x0a00_0000 + n / 50 * 65_536 + n % 50).into());
    let v6 =
        (0..20_000_u128).map(|n| Ipv6Addr::from((0x2001_0db8 << 96) + ((n / 100) << 64) + n % 100).into());
    v4.chain(v6).collect()
}

/// How many of the sources each key gets. Indices are keys and some here.
fn shares(keys: &[u32], of_port: Option<u16>) -> Vec<usize> {
    let program = hashed(keys, of_port);
    let mut counts = vec![0; keys.len()];
    for source in sources() {
        counts[place_of(keys, run(&program, &packet(source, of_port.unwrap_or(0)), 0))] += 1;
    }
    counts
}

fn hashed(keys: &[u32], of_port: Option<u16>) -> Vec<sock_filter> {
    let pairs = keys.iter().map(|key| (key + 100, *key)).collect();
    compile(&if of_port.is_some() { Program::Flow(pairs) } else { Program::Sticky(pairs) })
}

fn place_of(keys: &[u32], index: u32) -> usize {
    keys.iter().position(|key| key + 100 == index).expect("an index of the list")
}

#[test]
fn programs_stay_within_the_machine() {
    let longest = |program: Program| compile(&program).len();
    assert_eq!(longest(Program::Random(vec![7])), 1);
    assert_eq!(longest(Program::Random(vec![7, 9])), 5);
    let pairs = |count: usize| (0..count as u32).map(|n| (n, n + 1)).collect::<Vec<_>>();
    for program in [
        Program::Random(vec![0; ACTIVE_MAX]),
        Program::Weighted(pairs(ACTIVE_MAX)),
        Program::Sticky(pairs(HASHED_MAX)),
        Program::Flow(pairs(HASHED_MAX)),
    ] {
        let length = compile(&program).len();
        assert!(length <= INSTRUCTIONS_MAX, "{length} instructions");
    }
}

#[test]
fn each_weight_has_its_share_of_the_random_numbers() {
    let program = compile(&Program::Weighted(vec![(4, 10), (9, 0), (1, 30), (6, 60)]));
    let border = |share: f64| (share * 4_294_967_296.0) as u32;
    let at = |random: u32| run(&program, &[], random);
    for (from, to, index) in [(0.0, 0.1, 4), (0.1, 0.4, 1), (0.4, 1.0, 6)] {
        assert_eq!(at(border(from) + 2), index);
        assert_eq!(at(border(to).saturating_sub(2)), index);
    }
    assert_eq!((at(0), at(u32::MAX)), (4, 6));
}

#[test]
fn the_heaviest_weights_do_not_overflow() {
    let at = |pairs: Vec<(u32, u32)>, random| run(&compile(&Program::Weighted(pairs)), &[], random);
    assert_eq!(at(vec![(1, u32::MAX), (2, u32::MAX)], u32::MAX), 2);
    assert_eq!(at(vec![(1, u32::MAX), (2, u32::MAX)], 0), 1);
    let many: Vec<_> = (0..ACTIVE_MAX as u32).map(|n| (n, u32::MAX)).chain([(5000, 1)]).collect();
    assert!(at(many.clone(), u32::MAX) >= 1999);
    assert_eq!(at(many, 0), 0);
    assert_eq!(at(vec![(3, 0), (8, 1)], 77), 8);
}

#[test]
fn hashes_share_evenly() {
    for of_port in [None, Some(53)] {
        for count in [2, 3, 4, 8, 16, 64] {
            let keys: Vec<u32> = (0..count).collect();
            let counts = shares(&keys, of_port);
            let even = sources().len() as f64 / f64::from(count);
            // A share strays from its mean by no more than this with a probability of one in 10^6 for each.
            let bound = 5.0 * even.sqrt();
            assert!(counts.iter().all(|got| (*got as f64 - even).abs() < bound), "{count}: {counts:?}");
        }
    }
}

#[test]
fn a_key_that_comes_moves_only_what_it_wins() {
    for of_port in [None, Some(4433)] {
        for count in [1, 2, 4, 15] {
            let (before, after): (Vec<u32>, Vec<u32>) = ((0..count).collect(), (0..=count).collect());
            let (old, new) = (hashed(&before, of_port), hashed(&after, of_port));
            let mut moved = 0;
            for source in sources() {
                let packet = packet(source, of_port.unwrap_or(0));
                let (old, new) = (run(&old, &packet, 0), run(&new, &packet, 0));
                assert!(new == old || new == count + 100, "{source}: {old} became {new}");
                moved += usize::from(new != old);
            }
            let share = moved as f64 / sources().len() as f64 * f64::from(count + 1);
            assert!((0.9..1.1).contains(&share), "{count}: {share} of a share moved");
        }
    }
}

#[test]
fn neither_order_nor_indices_nor_the_random_number_matter_to_a_hash() {
    let one = compile(&Program::Sticky(vec![(0, 0), (2, 1), (4, 2)]));
    let other = compile(&Program::Sticky(vec![(5, 2), (3, 1), (1, 0)]));
    for source in sources() {
        let slot = run(&one, &packet(source, 1), 1) / 2;
        assert_eq!(run(&other, &packet(source, 2), 2) / 2, slot, "{source}");
    }
}

#[test]
fn ports_count_for_flows_only() {
    let keys: Vec<u32> = (0..4).collect();
    for source in [IpAddr::from([10, 1, 2, 3]), "2001:db8::5".parse().unwrap()] {
        let chosen = |of_port: Option<u16>| -> BTreeSet<u32> {
            let program = hashed(&keys, of_port);
            (1..500).map(|port| run(&program, &packet(source, port), 0)).collect()
        };
        assert_eq!(chosen(None).len(), 1);
        assert_eq!(chosen(Some(0)).len(), 4);
    }
}

#[test]
fn a_flow_with_extension_headers_goes_by_its_address() {
    let program = hashed(&[0, 1, 2, 3], Some(0));
    let chosen: BTreeSet<u32> = (1..100)
        .map(|port| {
            let mut bytes = packet("2001:db8::5".parse().unwrap(), port);
            bytes[6] = 0;
            run(&program, &bytes, 0)
        })
        .collect();
    assert_eq!(chosen.len(), 1);
}

#[test]
fn of_members_with_one_key_the_first_gets_all() {
    assert_eq!(compile(&Program::Sticky(vec![(3, 7), (1, 7)])).len(), 1);
    let program = compile(&Program::Sticky(vec![(3, 7), (0, 8), (1, 7)]));
    let chosen: BTreeSet<u32> =
        sources().into_iter().map(|source| run(&program, &packet(source, 0), 0)).collect();
    assert_eq!(chosen, BTreeSet::from([0, 3]));
}

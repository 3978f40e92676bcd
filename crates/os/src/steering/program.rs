//! Programs as instructions.
//!
//! A hash decides by the highest of all candidates' scores (rendezvous hashing): the classic machine has no tables,
//! and a candidate takes twelve instructions.

use libc::sock_filter;

use crate::steering::Program;
use crate::steering::assembly::*;

/// Cells of the machine's memory.
const ADDRESS: u32 = 0;
const BEST_SCORE: u32 = 1;
const BEST_INDEX: u32 = 2;

/// Odd numbers whose products spread well over the upper bits.
const SPREAD: [u32; 3] = [0x7feb_352d, 0x846c_a68b, 0x9e37_79b1];

/// Offsets in the network headers.
const V4_SOURCE: u32 = 12;
const V6_NEXT_HEADER: u32 = 6;
const V6_SOURCE: [u32; 4] = [8, 12, 16, 20];
const V6_HEADER_BYTES: u32 = 40;

/// What a hash is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Address,
    AddressAndPort,
}

/// The instructions of a program that has something to choose from, and no more than it can.
pub(super) fn compile(program: &Program) -> Vec<sock_filter> {
    match program {
        Program::Random(indices) => choose_evenly(indices),
        Program::Weighted(pairs) => choose_by_weight(pairs),
        Program::Sticky(pairs) => choose_by_hash(pairs, Of::Address),
        Program::Flow(pairs) => choose_by_hash(pairs, Of::AddressAndPort),
    }
}

/// `random % n`, then one comparison per choice; the last needs none.
fn choose_evenly(indices: &[u32]) -> Vec<sock_filter> {
    let mut program = Vec::with_capacity(2 + 2 * indices.len());
    let Some((last, others)) = indices.split_last() else { return program };
    if !others.is_empty() {
        program.push(op(LOAD_WORD, RANDOM));
        program.push(op(MODULO, indices.len() as u32));
    }
    for (place, index) in (0..).zip(others) {
        program.push(branch(JUMP_IF_EQUAL, place, 0, 1));
        program.push(op(RETURN, *index));
    }
    program.push(op(RETURN, *last));
    program
}

/// The random number lies below the threshold of just one choice that those before do not have.
fn choose_by_weight(pairs: &[(u32, u32)]) -> Vec<sock_filter> {
    let pairs: Vec<_> = pairs.iter().filter(|(_, weight)| *weight > 0).collect();
    let total: u128 = pairs.iter().map(|(_, weight)| u128::from(*weight)).sum();
    let mut program = Vec::with_capacity(1 + 2 * pairs.len());
    let Some(((last, _), others)) = pairs.split_last() else { return program };
    if !others.is_empty() {
        program.push(op(LOAD_WORD, RANDOM));
    }
    let mut passed = 0_u128;
    for (index, weight) in others {
        passed += u128::from(*weight);
        let threshold = ((passed << 32) + total / 2) / total;
        // Beyond the machine's word only where the rest has no share that it could express.
        let Ok(threshold) = u32::try_from(threshold) else {
            program.push(op(RETURN, *index));
            return program;
        };
        program.push(branch(JUMP_IF_AT_LEAST, threshold, 1, 0));
        program.push(op(RETURN, *index));
    }
    program.push(op(RETURN, *last));
    program
}

fn choose_by_hash(pairs: &[(u32, u32)], of: Of) -> Vec<sock_filter> {
    // Equal scores go to the lower key then, not to the one that happens to come first.
    let mut pairs = pairs.to_vec();
    pairs.sort_by_key(|(_, key)| *key);
    pairs.dedup_by_key(|(_, key)| *key);
    if let [(only, _)] = pairs[..] {
        return vec![op(RETURN, only)];
    }
    let mut program = Vec::with_capacity(64 + 12 * pairs.len());
    hash_source(&mut program, of);
    program.push(op(STORE, ADDRESS));
    for (place, (index, key)) in pairs.iter().enumerate() {
        score(&mut program, *key);
        if place > 0 {
            program.push(op(LOAD_CELL_TO_X, BEST_SCORE));
            program.push(branch(JUMP_IF_ABOVE_X, 0, 0, 3));
        }
        program.push(op(STORE, BEST_SCORE));
        program.push(op(LOAD_NUMBER, *index));
        program.push(op(STORE, BEST_INDEX));
    }
    program.push(op(LOAD_CELL, BEST_INDEX));
    program.push(op(RETURN_A, 0));
    program
}

/// How much the address likes the key.
fn score(program: &mut Vec<sock_filter>, key: u32) {
    program.push(op(LOAD_CELL, ADDRESS));
    program.push(op(XOR, scatter(key)));
    program.push(op(MULTIPLY, SPREAD[0]));
    program.extend(fold(15));
    program.push(op(MULTIPLY, SPREAD[1]));
}

/// Leaves a hash of the packet's source.
fn hash_source(program: &mut Vec<sock_filter>, of: Of) {
    let (v4, v6) = (hash_v4(of), hash_v6(of));
    program.push(op(LOAD_BYTE, NETWORK_HEADER));
    program.push(op(SHIFT_RIGHT, 4));
    program.push(branch(JUMP_IF_EQUAL, 6, v4.len() as u8 + 1, 0));
    program.extend(v4);
    program.push(op(JUMP, v6.len() as u32));
    program.extend(v6);
    program.extend(fold(16));
    program.push(op(MULTIPLY, SPREAD[0]));
    program.extend(fold(15));
    program.push(op(MULTIPLY, SPREAD[1]));
    program.extend(fold(16));
}

fn hash_v4(of: Of) -> Vec<sock_filter> {
    let mut program = vec![op(LOAD_WORD, NETWORK_HEADER + V4_SOURCE)];
    if of == Of::AddressAndPort {
        program.extend(stir());
        program.push(op(LOAD_HEADER_LENGTH_TO_X, NETWORK_HEADER));
        program.push(op(LOAD_HALF_AT_X, NETWORK_HEADER));
        program.extend(blend());
    }
    program
}

fn hash_v6(of: Of) -> Vec<sock_filter> {
    let [first, others @ ..] = V6_SOURCE;
    let mut program = vec![op(LOAD_WORD, NETWORK_HEADER + first)];
    for offset in others {
        program.extend(stir());
        program.push(op(LOAD_WORD, NETWORK_HEADER + offset));
        program.extend(blend());
    }
    if of == Of::AddressAndPort {
        program.extend(stir());
        program.push(op(LOAD_BYTE, NETWORK_HEADER + V6_NEXT_HEADER));
        program.push(branch(JUMP_IF_EQUAL, libc::IPPROTO_UDP as u32, 0, 2));
        program.push(op(LOAD_HALF, NETWORK_HEADER + V6_HEADER_BYTES));
        program.push(op(JUMP, 1));
        program.push(op(LOAD_NUMBER, 0));
        program.extend(blend());
    }
    program
}

/// Puts what there is of the hash aside, well spread.
fn stir() -> impl Iterator<Item = sock_filter> {
    let multiply = op(MULTIPLY, SPREAD[2]);
    std::iter::once(multiply).chain(fold(15)).chain([op(STORE, ADDRESS)])
}

/// Adds what was put aside to what was loaded since.
fn blend() -> [sock_filter; 2] {
    [op(LOAD_CELL_TO_X, ADDRESS), op(XOR_X, 0)]
}

/// The upper bits have their say in the lower ones.
fn fold(by: u32) -> [sock_filter; 3] {
    [op(COPY_TO_X, 0), op(SHIFT_RIGHT, by), op(XOR_X, 0)]
}

/// Makes neighbouring keys as different as any; no two become one.
fn scatter(key: u32) -> u32 {
    let mixed = key.wrapping_add(1).wrapping_mul(SPREAD[2]);
    let mixed = (mixed ^ (mixed >> 16)).wrapping_mul(SPREAD[0]);
    let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(SPREAD[1]);
    mixed ^ (mixed >> 16)
}

#[cfg(test)]
mod tests;

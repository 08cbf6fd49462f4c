//! The minimal programs that rampage's hooks are weighed against, instruction by instruction.
//! Encoding: <https://docs.kernel.org/bpf/standardization/instruction-set.html>.

use crate::bpf::CounterMap;

/// Helper functions, by their number in include/uapi/linux/bpf.h.
const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const GET_CURRENT_PID_TGID: i32 = 14;

/// The second register of a 64-bit load that makes its number the descriptor of a map.
const PSEUDO_MAP_FD: u8 = 1;
const FRAME: u8 = 10;

const MOV_IMM: u8 = 0xb7;
const MOV: u8 = 0xbf;
const ADD_IMM: u8 = 0x07;
const SHIFT_RIGHT_IMM: u8 = 0x77;
const LOAD_U64: u8 = 0x79;
const STORE_U32: u8 = 0x63;
const STORE_U64: u8 = 0x7b;
const STORE_U64_IMM: u8 = 0x7a;
const LOAD_IMM64: u8 = 0x18;
const JUMP_IF_ZERO: u8 = 0x15;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(code)
        | u64::from(to | from << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

/// Does nothing.
pub fn empty() -> Vec<u64> {
    vec![instruction(MOV_IMM, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]
}

/// Adds one to the counter of the process that runs.
pub fn count_by_tgid(map: &CounterMap) -> Vec<u64> {
    const KEY: i16 = -4;
    const ONE: i16 = -16;
    let load_map =
        [instruction(LOAD_IMM64, 1, PSEUDO_MAP_FD, 0, map.fd()), instruction(0, 0, 0, 0, 0)];
    let address = |register, offset: i16| {
        [
            instruction(MOV, register, FRAME, 0, 0),
            instruction(ADD_IMM, register, 0, 0, i32::from(offset)),
        ]
    };
    let mut program = vec![
        instruction(CALL, 0, 0, 0, GET_CURRENT_PID_TGID),
        instruction(SHIFT_RIGHT_IMM, 0, 0, 0, 32),
        instruction(STORE_U32, FRAME, 0, KEY, 0),
    ];
    program.extend(load_map);
    program.extend(address(2, KEY));
    program.extend([
        instruction(CALL, 0, 0, 0, MAP_LOOKUP_ELEM),
        instruction(JUMP_IF_ZERO, 0, 0, 4, 0),
        instruction(LOAD_U64, 1, 0, 0, 0),
        instruction(ADD_IMM, 1, 0, 0, 1),
        instruction(STORE_U64, 0, 1, 0, 0),
        // Over the insertion, to the end.
        instruction(0x05, 0, 0, 9, 0),
        instruction(STORE_U64_IMM, FRAME, 0, ONE, 1),
    ]);
    program.extend(load_map);
    program.extend(address(2, KEY));
    program.extend(address(3, ONE));
    program.extend([
        instruction(MOV_IMM, 4, 0, 0, 0),
        instruction(CALL, 0, 0, 0, MAP_UPDATE_ELEM),
        instruction(MOV_IMM, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    program
}

//! The parts that the reference server and the mock of an F5 share. Nothing else in this library uses them.

pub mod leaf;
pub mod process;
pub mod socket;

use std::fmt::Write as _;

/// Returns bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

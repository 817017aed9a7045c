//! NumPy's file format, version 1.0, as far as one matrix of 32-bit floats needs it.
//! Source: numpy/doc/source/reference/generated/numpy.lib.format (NEP 1).

use std::io::{self, Write};

/// Writes `values` as an array `[rows, columns]` of little-endian `f32` in C order.
///
/// `values.len()` must be `rows * columns`.
pub(crate) fn write(out: &mut impl Write, rows: usize, columns: usize, values: &[f32]) -> io::Result<()> {
    assert_eq!(values.len(), rows * columns, "values do not fill the shape");
    out.write_all(&header(rows, columns))?;
    for value in values {
        out.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

/// Magic, version, length of the rest, a Python literal padded with spaces so that the data begins at a multiple of 64.
fn header(rows: usize, columns: usize) -> Vec<u8> {
    let mut literal = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let unpadded = 10 + literal.len() + 1;
    literal.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    literal.push('\n');
    // Two numbers of at most 20 digits: far below the 65,535 that the format allows.
    let length = literal.len() as u16;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(length.to_le_bytes());
    header.extend(literal.as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_numpys() {
        let mut file = Vec::new();
        write(&mut file, 2, 3, &[1.0, -2.0, 0.5, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!(&file[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert_eq!(file.len(), 128 + 24);
        let literal = std::str::from_utf8(&file[10..128]).unwrap();
        assert!(literal.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"));
        assert!(literal.ends_with('\n'));
        assert_eq!(&file[128..136], [1.0f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat());
    }
}

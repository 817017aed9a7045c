//! Mapping files.

use coder_kernels::mapped::Mapped;
use std::path::Path;

#[test]
fn a_file_is_its_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mapped.rs");
    assert_eq!(&*Mapped::open(&path).unwrap(), include_bytes!("mapped.rs"));
}

#[test]
fn what_is_no_file_is_an_error() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(Mapped::open(folder).is_err());
    let missing = Mapped::open(&folder.join("no such file")).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
}
